package server

import (
	"encoding/base64"
	"time"
	"unicode/utf8"

	"github.com/gofiber/fiber/v2"

	"switchhook/engine"
	"switchhook/server/api"
)

func viewDelivery(d *engine.Delivery) api.Delivery {
	v := api.Delivery{
		ID: d.ID.String(), EventID: d.EventKey, EventType: d.EventType, SubscriptionID: d.ID.Subscription.Format(engine.SubscriptionPrefix),
		Account: d.Account, Status: api.DeliveryStatus(d.State.String()), Sequence: d.Sequence, AttemptCount: d.Attempts, ResponseStatus: d.Status, Error: d.Error,
	}
	if v.EventID == "" {
		v.EventID = d.ID.Event.Format(engine.EventPrefix)
	}
	v.NextAttemptAt, v.LastAttemptAt = timeOrNull(d.NextAt), timeOrNull(d.LastAt)
	return v
}

// viewWithAttempts returns a single delivery with its attempts; the target URL is complete only for
// callers that may change the subscription.
func viewWithAttempts(who caller, d *engine.Delivery, attempts []*engine.Attempt) api.Delivery {
	v := viewDelivery(d)
	v.Attempts = make([]api.Attempt, len(attempts))
	for i, a := range attempts {
		v.Attempts[i] = viewAttempt(a)
		if r := v.Attempts[i].Request; r != nil && !who.Has(engine.ScopeSubscribe) {
			r.URL = engine.MaskURL(r.URL)
		}
	}
	return v
}

func viewRan(a *engine.AttemptScript) *api.ScriptRun {
	v := &api.ScriptRun{Hash: a.Hash, CPUMS: milliseconds(a.CPU), Memory: a.Memory, Console: a.Console, Version: a.Ref.Version}
	if a.Ref.Script != 0 {
		v.ID = a.Ref.Script.Format(engine.ScriptPrefix)
	}
	return v
}

func viewAttempt(a *engine.Attempt) api.Attempt {
	v := api.Attempt{
		Number: a.Number, At: a.At, Outcome: outcomeOf(a), DurationMS: milliseconds(a.Duration),
		Error: a.Error, Phase: a.Phase, Batch: a.Batch, Resent: a.Resent, NotStored: a.NotStored,
	}
	if a.Request.Method != "" {
		v.Request = viewRequest(a.Request.Method, a.Request.URL, a.Request.Headers, a.Request.Body)
	}
	if a.Response.Status != 0 {
		v.Response = &api.AttemptResponse{
			Status: a.Response.Status, Headers: viewHeaders(a.Response.Headers), Truncated: a.Response.Truncated,
			BodyError: a.Response.BodyError, AttemptBody: viewBody(a.Response.Body),
		}
	}
	if a.Script.Hash != "" {
		v.Script = viewRan(&a.Script)
	}
	return v
}

func viewRequest(method, url string, headers []engine.Header, body []byte) *api.AttemptRequest {
	return &api.AttemptRequest{Method: method, URL: url, Headers: viewHeaders(headers), AttemptBody: viewBody(body)}
}

// outcomeOf returns the result of an attempt.
func outcomeOf(a *engine.Attempt) api.AttemptOutcome {
	switch {
	case a.TimedOut:
		return api.AttemptTimeout
	case a.Phase == "" && a.Response.Status == 0:
		return api.AttemptDropped
	}
	switch a.Phase {
	case "":
		return api.AttemptSucceeded
	case engine.PhaseHTTP:
		return api.AttemptRejected
	case engine.PhaseTransform:
		return api.AttemptScriptError
	case engine.PhaseRefused:
		return api.AttemptTargetBlocked
	case engine.PhaseEvent:
		return api.AttemptInternalError
	}
	return api.AttemptConnectionError
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

func viewBody(b []byte) api.AttemptBody {
	if utf8.Valid(b) {
		return api.AttemptBody{Body: string(b)}
	}
	return api.AttemptBody{Body: base64.StdEncoding.EncodeToString(b), Encoding: "base64"}
}

func (s *Server) listDeliveries(c *fiber.Ctx, who caller) error {
	account, err := who.listAccount(c)
	if err != nil {
		return err
	}
	q := s.readQuery(c, "subscription_id", "event_id", "event_type", "status", "since", "until")
	event := q.text("event_id")
	find := engine.DeliveryQuery{
		Account: account, Subscription: q.id("subscription_id", engine.SubscriptionPrefix), EventType: q.text("event_type"),
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
			q.fail("cursor", "is not a cursor of this list")
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
	setBodyETag(c)
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
