package server

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"time"

	"switchhook/engine"
	"switchhook/scripts/jsonindex"
	"switchhook/server/api"
)

// policyView is a subscription's delivery policy as the API shows it; null is the router's default.
type policyView struct {
	Retries     []api.Duration `json:"retries"`
	Timeout     *api.Duration  `json:"timeout"`
	InFlight    *int           `json:"in_flight"`
	Rate        *rateView      `json:"rate"`
	Ordering    string         `json:"ordering"`
	OrderingKey string         `json:"ordering_key"`
	GiveUpAfter *api.Duration  `json:"give_up_after"`
}

type rateView struct {
	Count int          `json:"count"`
	Per   api.Duration `json:"per"`
}

const orderingNone = "none" // engine.OrderingNone in the API

func viewPolicy(p *engine.Policy) policyView {
	v := policyView{
		Timeout: unlessZero(api.Duration(p.Timeout)), InFlight: unlessZero(p.InFlight), GiveUpAfter: unlessZero(api.Duration(p.GiveUpAfter)),
		Ordering: string(p.Ordering), OrderingKey: p.OrderingKey,
	}
	for _, wait := range p.Retries {
		v.Retries = append(v.Retries, api.Duration(wait))
	}
	if p.Rate != (engine.Rate{}) {
		v.Rate = &rateView{p.Rate.Count, api.Duration(p.Rate.Per)}
	}
	if p.Ordering == engine.OrderingNone {
		v.Ordering = orderingNone
	}
	return v
}

// unlessZero returns nil for the zero value, and for a zero time.
func unlessZero[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}

// healthView is a target's health as the API shows it.
type healthView struct {
	State        string     `json:"state"`
	Cause        string     `json:"cause,omitempty"` // of failures; empty if there are none
	FailingSince *time.Time `json:"failing_since"`
	Failures     int        `json:"failures"`
	LastError    string     `json:"last_error"`
	NextProbeAt  *time.Time `json:"next_probe_at"`
}

func viewHealth(h engine.Health) healthView {
	return healthView{string(h.State()), string(h.Cause), unlessZero(h.FailingSince), h.Failures, h.LastError, unlessZero(h.NextProbeAt)}
}

// policyInput is the request's policy.
type policyInput struct {
	Retries     json.RawMessage `json:"retries"`
	Timeout     api.Duration    `json:"timeout"`
	InFlight    int             `json:"in_flight"`
	Rate        json.RawMessage `json:"rate"`
	Ordering    string          `json:"ordering"`
	OrderingKey string          `json:"ordering_key"`
	GiveUpAfter api.Duration    `json:"give_up_after"`
}

// applyPolicy returns old merged with the members of raw (RFC 7396); null, as a member or as all of
// raw, resets to the router's default.
func applyPolicy(raw []byte, old engine.Policy) (p engine.Policy, err error) {
	if isNull(raw) {
		return p, nil
	}
	var in policyInput
	present, err := readMembers("policy", raw, &in)
	if err != nil {
		return old, err
	}
	p = old
	for name := range present {
		zero := false
		switch name {
		case "retries":
			p.Retries, err = readRetries("policy.retries", in.Retries)
		case "timeout":
			p.Timeout, zero = time.Duration(in.Timeout), in.Timeout == 0
		case "in_flight":
			p.InFlight, zero = in.InFlight, in.InFlight == 0
		case "rate":
			p.Rate, err = applyRate("policy.rate", in.Rate, old.Rate)
		case "ordering":
			if p.Ordering = engine.Ordering(in.Ordering); in.Ordering == orderingNone {
				p.Ordering = engine.OrderingNone
			}
		case "ordering_key":
			p.OrderingKey = in.OrderingKey
		case "give_up_after":
			p.GiveUpAfter, zero = time.Duration(in.GiveUpAfter), in.GiveUpAfter == 0
		}
		if zero && present[name].Kind() != jsonindex.Null {
			err = invalidField("policy."+name, "is 0; give more, or null for the router's default")
		}
		if err != nil {
			return old, err
		}
	}
	if p.Ordering != engine.OrderingKeyed && !present["ordering_key"].Exists() {
		p.OrderingKey = "" // it belonged to the previous ordering
	}
	return p, nil
}

func isNull(raw []byte) bool {
	raw = bytes.TrimSpace(raw)
	return len(raw) == 0 || string(raw) == "null"
}

func applyRate(field string, raw []byte, old engine.Rate) (engine.Rate, error) {
	if isNull(raw) {
		return engine.Rate{}, nil
	}
	in := rateView{old.Count, api.Duration(old.Per)}
	present, err := readMembers(field, raw, &in)
	if err != nil {
		return old, err
	}
	for _, name := range []string{"count", "per"} {
		if old == (engine.Rate{}) && !present[name].Exists() {
			return old, invalidField(field+"."+name, `is missing: write a rate as {"count": 10, "per": "1s"}`)
		}
	}
	if in.Count == 0 || in.Per == 0 {
		return old, invalidField(field, `lets nothing through; null takes the rate away, "active": false stops deliveries`)
	}
	return engine.Rate{Count: in.Count, Per: time.Duration(in.Per)}, nil
}

// backoff is a retry schedule with exponential waits.
type backoff struct {
	First    api.Duration `json:"first"`  // before the second attempt; the first is immediate
	Factor   float64      `json:"factor"` // default 2
	Cap      api.Duration `json:"cap"`    // default unlimited
	Attempts int          `json:"attempts"`
}

const (
	maxAttempts = 50
	maxFactor   = 100
)

// readRetries parses a list of waits, or a backoff.
func readRetries(field string, raw []byte) (engine.RetrySchedule, error) {
	if isNull(raw) {
		return nil, nil
	}
	switch bytes.TrimSpace(raw)[0] {
	case '{':
		return readBackoff(field, raw)
	case '[':
	default:
		return nil, invalidField(field, `must be a list such as ["0s", "5s", "1m"], or an object such as {"first": "5s", "factor": 2, "cap": "1h", "attempts": 10}`)
	}
	var items []json.RawMessage
	if err := json.Unmarshal(raw, &items); err != nil {
		return nil, err
	}
	if len(items) == 0 || len(items) > maxAttempts {
		return nil, invalidField(field, fmt.Sprintf("makes %d attempts; 1 to %d are allowed", len(items), maxAttempts))
	}
	schedule := make(engine.RetrySchedule, len(items))
	for i, item := range items {
		if isNull(item) {
			return nil, invalidField(fmt.Sprintf("%s[%d]", field, i), `must be a length of time such as "5s"`)
		}
		if err := readValue(fmt.Sprintf("%s[%d]", field, i), item, (*api.Duration)(&schedule[i])); err != nil {
			return nil, err
		}
	}
	return schedule, nil
}

func readBackoff(field string, raw []byte) (engine.RetrySchedule, error) {
	in := backoff{Factor: 2, Cap: math.MaxInt64}
	present, err := readMembers(field, raw, &in)
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"first", "attempts"} {
		if !present[name].Exists() {
			return nil, invalidField(field+"."+name, `is missing: write it as {"first": "5s", "factor": 2, "cap": "1h", "attempts": 10}`)
		}
	}
	if in.Attempts < 1 || in.Attempts > maxAttempts {
		return nil, invalidField(field+".attempts", fmt.Sprintf("is %d; 1 to %d are allowed", in.Attempts, maxAttempts))
	}
	if in.Factor < 1 || in.Factor > maxFactor {
		return nil, invalidField(field+".factor", fmt.Sprintf("is %v; 1 to %d is allowed", in.Factor, maxFactor))
	}
	schedule := make(engine.RetrySchedule, 1, in.Attempts)
	wait := float64(in.First)
	for len(schedule) < in.Attempts {
		wait = min(wait, float64(in.Cap), float64(math.MaxInt64/2)) // the engine refuses values that are too long
		schedule = append(schedule, time.Duration(wait).Round(time.Millisecond))
		wait *= in.Factor
	}
	return schedule, nil
}
