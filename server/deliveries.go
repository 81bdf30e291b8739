package server

import (
	"encoding/base64"
	"time"
	"unicode/utf8"

	"github.com/gofiber/fiber/v2"

	"switchhook/engine"
)

// deliveryView is a delivery as the API shows it.
type deliveryView struct {
	ID             string        `json:"id"`
	EventID        string        `json:"event_id"`
	EventType      string        `json:"event_type"`
	SubscriptionID string        `json:"subscription_id"`
	Account        string        `json:"account"`
	Status         string        `json:"status"`             // pending, retrying, succeeded, dead, dropped
	Sequence       int64         `json:"sequence,omitempty"` // if the subscription numbers its deliveries
	AttemptCount   int           `json:"attempt_count"`
	NextAttemptAt  *time.Time    `json:"next_attempt_at"` // null unless failed
	LastAttemptAt  *time.Time    `json:"last_attempt_at"` // null before the first
	ResponseStatus int           `json:"response_status,omitempty"`
	Error          string        `json:"error,omitempty"`
	Attempts       []attemptView `json:"attempts,omitzero"` // with a single delivery only
}

func viewDelivery(d *engine.Delivery) deliveryView {
	v := deliveryView{
		ID: d.ID.String(), EventID: d.EventKey, EventType: d.EventType, SubscriptionID: d.ID.Subscription.Format(engine.SubscriptionPrefix),
		Account: d.Account, Status: d.State.String(), Sequence: d.Sequence, AttemptCount: d.Attempts, ResponseStatus: d.Status, Error: d.Error,
	}
	if v.EventID == "" {
		v.EventID = d.ID.Event.Format(engine.EventPrefix)
	}
	if !d.NextAt.IsZero() {
		v.NextAttemptAt = &d.NextAt
	}
	if !d.LastAt.IsZero() {
		v.LastAttemptAt = &d.LastAt
	}
	return v
}

// viewWithAttempts returns a single delivery with its attempts; the target URL is complete only for
// callers that may change the subscription.
func viewWithAttempts(who caller, d *engine.Delivery, attempts []*engine.Attempt) deliveryView {
	v := viewDelivery(d)
	v.Attempts = make([]attemptView, len(attempts))
	for i, a := range attempts {
		v.Attempts[i] = viewAttempt(a)
		if r := v.Attempts[i].Request; r != nil && !who.Has(engine.ScopeSubscribe) {
			r.URL = engine.MaskURL(r.URL)
		}
	}
	return v
}

// attemptView is an attempt as the API shows it.
type attemptView struct {
	Number     int                `json:"number"`
	At         time.Time          `json:"at"`
	DurationMS float64            `json:"duration_ms"`
	Request    *requestView       `json:"request"`  // null if none was sent
	Response   *responseView      `json:"response"` // null if none was received
	Error      string             `json:"error,omitempty"`
	Phase      string             `json:"phase,omitempty"`  // in which it failed
	Batch      int                `json:"batch,omitempty"`  // number of events in the POST
	Resent     bool               `json:"resent,omitempty"` // sent a second time, on a new connection
	Script     *scriptRunResponse `json:"script,omitempty"`
}

type requestView struct {
	Method  string            `json:"method"`
	URL     string            `json:"url"`
	Headers map[string]string `json:"headers"`
	bodyView
}

type responseView struct {
	Status    int               `json:"status"`
	Headers   map[string]string `json:"headers"`
	Truncated bool              `json:"truncated"`
	BodyError string            `json:"body_error,omitempty"` // why the body is incomplete
	bodyView
}

// bodyView shows bytes as text if they are valid UTF-8.
type bodyView struct {
	Body     string `json:"body"`
	Encoding string `json:"body_encoding,omitempty"` // "base64" if the body is not UTF-8
}

// scriptRunResponse describes a transform's run.
type scriptRunResponse struct {
	ID      string   `json:"id,omitempty"`      // of the script, if the subscription uses one
	Version int      `json:"version,omitempty"` // of the script
	Hash    string   `json:"hash"`
	CPUMS   float64  `json:"cpu_ms"`
	Memory  int64    `json:"memory_bytes,omitempty"` // in dry runs
	Console []string `json:"console,omitempty"`
}

func viewRan(a *engine.AttemptScript) *scriptRunResponse {
	v := &scriptRunResponse{Hash: a.Hash, CPUMS: milliseconds(a.CPU), Memory: a.Memory, Console: a.Console, Version: a.Ref.Version}
	if a.Ref.Script != 0 {
		v.ID = a.Ref.Script.Format(engine.ScriptPrefix)
	}
	return v
}

func viewAttempt(a *engine.Attempt) attemptView {
	v := attemptView{Number: a.Number, At: a.At, DurationMS: milliseconds(a.Duration), Error: a.Error, Phase: a.Phase, Batch: a.Batch, Resent: a.Resent}
	if a.Request.Method != "" {
		v.Request = &requestView{a.Request.Method, a.Request.URL, viewHeaders(a.Request.Headers), viewBody(a.Request.Body)}
	}
	if a.Response.Status != 0 {
		v.Response = &responseView{a.Response.Status, viewHeaders(a.Response.Headers), a.Response.Truncated, a.Response.BodyError, viewBody(a.Response.Body)}
	}
	if a.Script.Hash != "" {
		v.Script = viewRan(&a.Script)
	}
	return v
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func viewHeaders(list []engine.Header) map[string]string {
	m := make(map[string]string, len(list))
	for _, h := range list {
		if old, twice := m[h.Name]; twice {
			h.Value = old + ", " + h.Value
		}
		m[h.Name] = h.Value
	}
	return m
}

func viewBody(b []byte) bodyView {
	if utf8.Valid(b) {
		return bodyView{Body: string(b)}
	}
	return bodyView{base64.StdEncoding.EncodeToString(b), "base64"}
}

func (s *Server) listDeliveries(c *fiber.Ctx, who caller) error {
	account, err := who.listAccount(c)
	if err != nil {
		return err
	}
	q := s.readQuery(c, "subscription", "subscription_id", "event", "event_id", "type", "event_type", "status", "since", "until")
	event := q.text(q.aliasParam("event", "event_id"))
	find := engine.DeliveryQuery{
		Account: account, Subscription: q.id(q.aliasParam("subscription", "subscription_id"), engine.SubscriptionPrefix), EventType: q.text(q.aliasParam("type", "event_type")),
		Since: q.since("since"), Until: q.since("until"), Limit: q.limit() + 1,
	}
	if status := c.Query("status"); status != "" {
		var ok bool
		if find.State, ok = engine.ParseState(status); !ok {
			q.fail("status", "must be pending, retrying, succeeded, dead or dropped")
		}
	}
	if cursor := c.Query("cursor"); cursor != "" {
		var ok bool
		if find.Before, ok = engine.ParseDeliveryID(cursor); !ok {
			q.fail("cursor", "is none that this list gave")
		}
	}
	if q.err != nil {
		return q.err
	}
	if event != "" {
		ev, err := s.engine.FindEvent(c.UserContext(), account, who.Account, event)
		if err != nil {
			return err
		}
		find.Event = ev.ID
	}
	found, err := s.engine.Deliveries(c.UserContext(), find)
	if err != nil {
		return err
	}
	cursor := func(d *engine.Delivery) string { return d.ID.String() }
	return answerPage(c, pageOf(found, find.Limit-1, cursor, viewDelivery))
}

func (s *Server) getDelivery(c *fiber.Ctx, who caller) error {
	id, err := deliveryID(c)
	if err != nil {
		return err
	}
	d, attempts, err := s.engine.Delivery(c.UserContext(), who.accountScope(), id)
	if err != nil {
		return err
	}
	return c.JSON(viewWithAttempts(who, d, attempts))
}

func deliveryID(c *fiber.Ctx) (engine.DeliveryID, error) {
	id, ok := engine.ParseDeliveryID(c.Params("id"))
	if !ok {
		return id, engine.NotFound("delivery", truncate(c.Params("id")))
	}
	return id, nil
}

func (s *Server) retryDelivery(c *fiber.Ctx, who caller) error {
	id, err := deliveryID(c)
	if err != nil {
		return err
	}
	d, err := s.engine.Retry(c.UserContext(), who.accountScope(), id)
	if err != nil {
		return err
	}
	return c.Status(fiber.StatusAccepted).JSON(viewDelivery(d))
}
