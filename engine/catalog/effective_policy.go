package catalog

import (
	"time"

	"switchhook/engine"
)

// The limits of a policy.
const (
	maxRetries     = 50
	maxRetryWait   = 30 * 24 * time.Hour
	minTimeout     = 100 * time.Millisecond
	maxTimeout     = time.Minute
	maxInFlight    = 512
	maxRateCount   = 100_000
	minRatePer     = time.Second
	maxRatePer     = time.Hour
	minGiveUpAfter = time.Second
	maxGiveUpAfter = 30 * 24 * time.Hour
)

// validatePolicy validates a policy; inFlight is the router's limit over all subscriptions.
func validatePolicy(p *engine.Policy, inFlight int) *engine.Error {
	if len(p.Retries) > maxRetries {
		return engine.Invalid("policy.retries", "makes %d attempts, %d are allowed", len(p.Retries), maxRetries)
	}
	for i, wait := range p.Retries {
		switch {
		case i == 0 && wait != 0:
			return engine.Invalid("policy.retries", "begins with %s: the first attempt is made at once, so begin with \"0s\"", wait)
		case wait < 0 || wait > maxRetryWait:
			return engine.Invalid("policy.retries", "waits %s before attempt %d; 0s to %s (30 days) are allowed", wait, i+1, maxRetryWait)
		}
	}
	most := min(maxInFlight, inFlight)
	switch {
	case p.Timeout != 0 && (p.Timeout < minTimeout || p.Timeout > maxTimeout):
		return engine.Invalid("policy.timeout", "is %s; %s to %s are allowed", p.Timeout, minTimeout, maxTimeout)
	case p.InFlight < 0 || p.InFlight > most:
		return engine.Invalid("policy.in_flight", "is %d; 1 to %d are allowed here", p.InFlight, most)
	case p.Rate != engine.Rate{} && (p.Rate.Count < 1 || p.Rate.Count > maxRateCount):
		return engine.Invalid("policy.rate.count", "is %d; 1 to %d are allowed", p.Rate.Count, maxRateCount)
	case p.Rate != engine.Rate{} && (p.Rate.Per < minRatePer || p.Rate.Per > maxRatePer):
		return engine.Invalid("policy.rate.per", "is %s; %s to %s are allowed", p.Rate.Per, minRatePer, maxRatePer)
	case p.GiveUpAfter != 0 && (p.GiveUpAfter < minGiveUpAfter || p.GiveUpAfter > maxGiveUpAfter):
		return engine.Invalid("policy.give_up_after", "is %s; %s to %s (30 days) are allowed", p.GiveUpAfter, minGiveUpAfter, maxGiveUpAfter)
	}
	switch p.Ordering {
	case engine.OrderingNone, engine.OrderingFIFO:
		if p.OrderingKey != "" {
			return engine.Invalid("policy.ordering_key", `goes with "ordering": "key" only`)
		}
	case engine.OrderingKeyed:
		if p.OrderingKey == "" {
			return engine.Invalid("policy.ordering_key", `is missing: "ordering": "key" needs an expression such as "data.customer.id"`)
		}
	default:
		return engine.Invalid("policy.ordering", `%.40q is not known: use "none", "fifo" or "key"`, string(p.Ordering))
	}
	return nil
}

// EffectivePolicy is a subscription's policy with the router's defaults filled in.
type EffectivePolicy struct {
	Retries             engine.RetrySchedule
	Timeout             time.Duration
	InFlight            int
	Interval            time.Duration // minimum time between two attempts; 0: none
	GiveUpAfter         time.Duration
	ExplicitGiveUpAfter bool // GiveUpAfter is the user's: it also runs while the subscription is inactive
}

// DefaultGiveUpAfter is the default maximum age of a delivery: the default schedule with jitter
// fits in, with some hours to spare for a target that asks for more time. A longer schedule is
// never cut short.
const DefaultGiveUpAfter = 4 * 24 * time.Hour

// resolvePolicy returns the policy of a subscription with the router's defaults filled in.
func (c *Catalog) resolvePolicy(s *engine.Subscription) EffectivePolicy {
	t := EffectivePolicy{
		Retries: s.Policy.Retries, Timeout: s.Policy.Timeout, InFlight: s.Policy.InFlight,
		Interval: s.Policy.Rate.Interval(), GiveUpAfter: s.Policy.GiveUpAfter, ExplicitGiveUpAfter: s.Policy.GiveUpAfter != 0,
	}
	if t.Retries == nil {
		t.Retries = c.cfg.Retries
	}
	if t.Timeout == 0 {
		t.Timeout = c.cfg.Timeout
	}
	if t.InFlight == 0 {
		t.InFlight = c.cfg.SubscriptionInFlight
	}
	t.InFlight = min(t.InFlight, c.cfg.InFlight)
	if allowed := s.Verification.AllowedRate; allowed > 0 {
		t.Interval = max(t.Interval, engine.Rate{Count: allowed, Per: time.Minute}.Interval())
	}
	if t.GiveUpAfter == 0 {
		t.GiveUpAfter = max(DefaultGiveUpAfter, t.Retries.Span()+time.Hour)
	}
	return t
}
