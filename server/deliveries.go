package server

import (
	"encoding/base64"
	"strconv"
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

// viewListed returns an attempt of a list, which has no bodies; the target URL is complete only for
// callers that may change the subscription.
func viewListed(who caller, a *engine.Attempt) api.Attempt {
	v := api.Attempt{
		Number: a.Number, At: a.At, Outcome: outcomeOf(a), DurationMS: milliseconds(a.Duration),
		Error: a.Error, Phase: a.Phase, Batch: a.Batch, Resent: a.Resent, NotStored: a.NotStored,
	}
	if a.Request.Method != "" {
		v.Request = viewRequest(a.Request.Method, a.Request.URL, a.Request.Headers)
		v.Request.Size = a.Request.Size
		if !who.Has(engine.ScopeSubscribe) {
			v.Request.URL = engine.MaskURL(v.Request.URL)
		}
	}
	if a.Response.Status != 0 {
		v.Response = &api.AttemptResponse{
			Status: a.Response.Status, Headers: viewHeaders(a.Response.Headers), Truncated: a.Response.Truncated,
			BodyError: a.Response.BodyError, AttemptBody: api.AttemptBody{Size: a.Response.Size},
		}
	}
	if a.Script.Hash != "" {
		v.Script = viewRan(&a.Script)
	}
	return v
}

// viewAttempt returns an attempt with its bodies.
func viewAttempt(who caller, a *engine.Attempt) api.Attempt {
	v := viewListed(who, a)
	if v.Request != nil {
		v.Request.AttemptBody = viewBody(a.Request.Body)
	}
	if v.Response != nil {
		v.Response.AttemptBody = viewBody(a.Response.Body)
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

func viewRequest(method, url string, headers []engine.Header) *api.AttemptRequest {
	return &api.AttemptRequest{Method: method, URL: url, Headers: viewHeaders(headers)}
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
		return api.AttemptBody{Size: len(b), Body: new(string(b))}
	}
	return api.AttemptBody{Size: len(b), Body: new(base64.StdEncoding.EncodeToString(b)), Encoding: "base64"}
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
		Since: q.since("since"), Until: q.since("until"), Limit: q.limit(), MaxBytes: pageBytes,
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
	found, next, err := s.engine.Deliveries(c.UserContext(), find)
	if err != nil {
		return err
	}
	cursor := func(d *engine.Delivery) string { return d.ID.String() }
	return pageAnswer(c)(pageOf(found, find.Limit, deliveryCursor(next), cursor, viewDelivery))
}

func (s *Server) getDelivery(c *fiber.Ctx, who caller) error {
	id, err := deliveryID(c)
	if err != nil {
		return err
	}
	d, err := s.engine.Delivery(c.UserContext(), who.accountScope(), id)
	if err != nil {
		return err
	}
	list, next, err := s.engine.Attempts(c.UserContext(), who.accountScope(), engine.AttemptQuery{Delivery: id, Limit: defaultLimit, MaxBytes: pageBytes})
	if err != nil {
		return err
	}
	v := viewDelivery(d)
	v.Attempts = []api.Attempt{}
	for _, a := range list {
		v.Attempts = append(v.Attempts, viewListed(who, a))
	}
	if cursor := numberCursor(next); cursor != "" {
		v.NextAttempts = s.cfg.PathPrefix + apiPath + "/deliveries/" + v.ID + "/attempts?cursor=" + cursor
	}
	setBodyETag(c)
	return c.JSON(v)
}

func (s *Server) listAttempts(c *fiber.Ctx, who caller) error {
	id, err := deliveryID(c)
	if err != nil {
		return err
	}
	q := s.readQuery(c)
	find := engine.AttemptQuery{Delivery: id, Before: q.number("cursor"), Limit: q.limit(), MaxBytes: pageBytes}
	if q.err != nil {
		return q.err
	}
	found, next, err := s.engine.Attempts(c.UserContext(), who.accountScope(), find)
	if err != nil {
		return err
	}
	cursor := func(a *engine.Attempt) string { return strconv.Itoa(a.Number) }
	view := func(a *engine.Attempt) api.Attempt { return viewListed(who, a) }
	return pageAnswer(c)(pageOf(found, find.Limit, numberCursor(next), cursor, view))
}

func (s *Server) getAttempt(c *fiber.Ctx, who caller) error {
	id, err := deliveryID(c)
	if err != nil {
		return err
	}
	number, err := strconv.Atoi(c.Params("number"))
	if err != nil || number < 1 {
		return engine.NotFound("attempt", truncate(c.Params("number")))
	}
	a, err := s.engine.StoredAttempt(c.UserContext(), who.accountScope(), id, number)
	if err != nil {
		return err
	}
	return c.JSON(viewAttempt(who, a))
}

// deliveryCursor returns the cursor of a list of deliveries; empty for the zero id.
func deliveryCursor(id engine.DeliveryID) string {
	if id == (engine.DeliveryID{}) {
		return ""
	}
	return id.String()
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
