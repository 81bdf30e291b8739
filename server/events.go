package server

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/url"
	"strconv"
	"strings"

	"github.com/gofiber/fiber/v2"

	"switchhook/engine"
	"switchhook/engine/ingest"
	"switchhook/engine/signature"
	"switchhook/scripts/jsonindex"
	"switchhook/server/api"
	"switchhook/server/wire"
)

// replayedHeader marks the response to a repeated request.
const replayedHeader = "Idempotent-Replayed"

func (s *Server) publish(c *fiber.Ctx, who caller) error {
	release, err := s.publishing.acquire(s.streams, who.Account)
	if err != nil {
		return err
	}
	defer release()
	if isCloudEvent(c) {
		return s.publishCloudEvents(c, who)
	}
	doc, err := readJSON(c)
	if err != nil {
		return err
	}
	root := doc.Root()
	switch root.Kind() {
	case jsonindex.Object:
		in, err := readEvent(c, root, who)
		if err != nil {
			return err
		}
		if in.IdempotencyKey, err = idempotencyKey(c); err != nil {
			return err
		}
		return s.publishInput(c, in)
	case jsonindex.Array:
		return s.publishBatch(c, root, who)
	}
	return newProblem(fiber.StatusUnprocessableEntity, "the body must be an event, {\"type\": …, \"data\": …}, or a list of events")
}

// idempotencyKey returns the request's idempotency key; empty if it has none. It refuses two keys, since
// the request could repeat one request and not the other.
func idempotencyKey(c *fiber.Ctx) (string, error) {
	key := ""
	for i, value := range c.Request().Header.PeekAll("Idempotency-Key") {
		if i > 0 && string(value) != key {
			return "", invalidField("Idempotency-Key", "is given twice, with two values: give one")
		}
		if key = string(value); key == "" {
			return "", invalidField("Idempotency-Key", "is empty: give a key, or leave the header out")
		}
	}
	return key, nil
}

// hopsOf returns the number of deliveries that led to the request; 0 if it does not say.
func hopsOf(c *fiber.Ctx) (most int, err error) {
	if c.Request().Header.Peek(engine.HopsHeader) == nil {
		return 0, nil
	}
	for _, value := range c.Request().Header.PeekAll(engine.HopsHeader) {
		text := string(value)
		n, err := strconv.Atoi(text)
		switch {
		case text == "" || strings.Trim(text, "0123456789") != "":
			return 0, invalidField(engine.HopsHeader, fmt.Sprintf("is %.40q: repeat the number of the delivery that this follows from, or leave the header out", text))
		case err != nil: // more digits than an int has
			n = math.MaxInt
		}
		most = max(most, n)
	}
	return most, nil
}

// isDelivery reports whether the request is a delivery of a router.
func isDelivery(c *fiber.Ctx) bool {
	header := &c.Request().Header
	return header.Peek(engine.HopsHeader) != nil && header.Peek(signature.IDHeader) != nil
}

// traced returns a context that continues the publisher's trace, if tracing is on. The request's end does
// not cancel it: an accepted event stays accepted.
func (s *Server) traced(c *fiber.Ctx) context.Context {
	return s.engine.TraceContext(string(c.Request().Header.Peek("Traceparent")))
}

// publishInput publishes one event and responds.
func (s *Server) publishInput(c *fiber.Ctx, in engine.EventInput) (err error) {
	if in.Hops, err = hopsOf(c); err != nil {
		return err
	}
	accepted, err := s.engine.Publish(s.traced(c), []engine.EventInput{in})
	if err != nil {
		return s.publishError(err)
	}
	if accepted[0].Repeated {
		c.Set(replayedHeader, "true")
	}
	return c.Status(fiber.StatusAccepted).JSON(viewAccepted(&in, &accepted[0]))
}

func (s *Server) publishBatch(c *fiber.Ctx, list jsonindex.Value, who caller) error {
	if list.Len() == 0 || list.Len() > ingest.MaxBatch {
		return newProblem(fiber.StatusUnprocessableEntity, fmt.Sprintf("the list holds %d events; 1 to %d can be published at a time", list.Len(), ingest.MaxBatch))
	}
	inputs := make([]engine.EventInput, 0, list.Len())
	key, err := idempotencyKey(c)
	if err != nil {
		return err
	}
	for i, v := range list.Elements() {
		in, err := readEvent(c, v, who)
		if p, ok := err.(*api.Error); ok {
			at := fmt.Sprintf("events[%d]", i)
			if p.Field != "" {
				at += "." + p.Field
			}
			p.Field, p.Detail = at, fmt.Sprintf("events[%d]: %s", i, p.Detail)
			return p
		}
		if err != nil {
			return engine.FieldsBelow(err, fmt.Sprintf("events[%d]", i))
		}
		in.IdempotencyKey, in.KeyPart = key, strconv.Itoa(i) // each event uses its part of the list's key
		inputs = append(inputs, in)
	}
	return s.publishInputs(c, inputs)
}

// publishInputs publishes a list of events and responds.
func (s *Server) publishInputs(c *fiber.Ctx, inputs []engine.EventInput) error {
	hops, err := hopsOf(c)
	if err != nil {
		return err
	}
	for i := range inputs {
		inputs[i].Hops = hops
	}
	accepted, err := s.engine.Publish(s.traced(c), inputs)
	if err != nil {
		return s.publishError(inList(err, len(inputs)))
	}
	views := make([]api.AcceptedEvent, len(accepted))
	repeated := true
	for i, a := range accepted {
		views[i] = viewAccepted(&inputs[i], &a)
		repeated = repeated && a.Repeated
	}
	if repeated {
		c.Set(replayedHeader, "true")
	}
	return c.Status(fiber.StatusAccepted).JSON(api.AcceptedEvents{Data: views})
}

// inList adds the list index that Publish leaves out for a single event.
func inList(err error, n int) error {
	if n != 1 {
		return err
	}
	return engine.FieldsBelow(err, "events[0]")
}

// readEvent parses a published event. It checks every member, since a misspelt one would be lost.
func readEvent(c *fiber.Ctx, v jsonindex.Value, who caller) (in engine.EventInput, err error) {
	if v.Kind() != jsonindex.Object {
		return in, newProblem(fiber.StatusUnprocessableEntity, "an event must be an object, {\"type\": …, \"data\": …}, not "+wire.Article(v.Kind().String()))
	}
	for name, member := range v.Members() {
		switch name {
		case "type":
			in.Type, err = textMember(name, member)
		case "data":
			in.Data = member
		case "id":
			in.ID, err = textMember(name, member)
		case "account":
			in.Account, err = textMember(name, member)
		case "time":
			var text string
			if text, err = textMember(name, member); err == nil && text != "" {
				if in.Time, err = wire.ParseTime(text); err != nil {
					err = invalidField(name, err.Error())
				}
			}
		case "headers":
			in.Headers, err = headersMember(member)
		case "targets":
			in.Targets, err = targetsMember(member, who)
		default:
			err = unknownField(name, "is not known: an event has type, data, id, account, time, headers and targets; what happened goes into data")
		}
		if err != nil {
			return in, err
		}
	}
	in.Account, err = who.ownerAccount(c, in.Account)
	return in, err
}

func textMember(name string, v jsonindex.Value) (string, error) {
	switch v.Kind() {
	case jsonindex.String:
		if v.Text() == "" && name != "type" { // an unset variable must not pass for an omitted member
			return "", invalidField(name, "is empty; give a value, or leave it out")
		}
		return v.Text(), nil
	case jsonindex.Null:
		return "", nil
	}
	return "", invalidField(name, "must be a string, not "+wire.Article(v.Kind().String()))
}

func headersMember(v jsonindex.Value) (map[string]string, error) {
	if v.Kind() == jsonindex.Null {
		return nil, nil
	}
	if v.Kind() != jsonindex.Object {
		return nil, invalidField("headers", "must be an object of strings, not "+wire.Article(v.Kind().String()))
	}
	headers := make(map[string]string, v.Len())
	for name, member := range v.Members() {
		if member.Kind() != jsonindex.String {
			return nil, invalidField("headers."+name, "must be a string, not "+wire.Article(member.Kind().String()))
		}
		headers[name] = member.Text()
	}
	return headers, nil
}

func viewEvent(ev *engine.Event) api.Event {
	v := api.Event{
		ID: ev.PublicID(), WebhookID: ev.ID.Format(engine.EventPrefix), Type: ev.Type, Account: ev.Account,
		Time: ev.Time, ReceivedAt: ev.Received(), Headers: ev.Headers, Matched: len(ev.Targets), Hops: ev.Hops, Data: ev.Data, Unreadable: ev.Unreadable,
	}
	if !json.Valid(v.Data) { // it was valid when it was accepted
		v.Data, v.Unreadable = nil, append(v.Unreadable, "data")
	}
	return v
}

func (s *Server) listEvents(c *fiber.Ctx, who caller) error {
	account, err := who.listAccount(c)
	if err != nil {
		return err
	}
	q := s.readQuery(c, "type", "since", "until", "payload_format")
	find := engine.EventQuery{
		Account: account, Type: q.text("type"), Since: q.since("since"),
		Before: before(q.id("cursor", engine.EventPrefix), q.since("until")), Limit: q.limit(), MaxBytes: pageBytes,
	}
	if q.err != nil {
		return q.err
	}
	found, next, err := s.engine.Events(c.UserContext(), find)
	if err != nil {
		return err
	}
	cursor := func(ev *engine.Event) string { return ev.ID.Format(engine.EventPrefix) }
	after := idCursor(next, engine.EventPrefix)
	format := engine.PayloadFormat(q.text("payload_format"))
	if format == "" {
		return pageAnswer(c)(pageOf(found, find.Limit, after, cursor, viewEvent))
	}
	body, err := s.engine.BodyIn(format)
	if err != nil {
		return err
	}
	answer, err := pageOf(found, find.Limit, after, cursor, func(ev *engine.Event) json.RawMessage { return body(ev) })
	if err != nil {
		return err
	}
	return answerPage(c, answer, "payload_format", format)
}

func (s *Server) getEvent(c *fiber.Ctx, who caller) error {
	if who.Key == nil {
		return s.getEventByToken(c)
	}
	id, err := url.PathUnescape(c.Params("id"))
	if err != nil {
		return engine.NotFound("event", truncate(c.Params("id")))
	}
	named, err := who.listAccount(c)
	if err != nil {
		return err
	}
	var ev *engine.Event
	if source := c.Query("source"); source != "" {
		ev, err = s.engine.FindSourcedEvent(c.UserContext(), who.accountScope(), named, source, id)
	} else {
		ev, err = s.engine.FindEvent(c.UserContext(), who.accountScope(), named, id)
	}
	if err != nil {
		return err
	}
	deliveries, next, err := s.engine.Deliveries(c.UserContext(), engine.DeliveryQuery{
		Account: who.accountScope(), Event: ev.ID, Limit: maxLimit, MaxBytes: pageBytes,
	})
	if err != nil {
		return err
	}
	view := viewEvent(ev)
	view.Deliveries = []api.Delivery{}
	for _, d := range deliveries {
		view.Deliveries = append(view.Deliveries, viewDelivery(d))
	}
	if cursor := deliveryCursor(next); cursor != "" {
		view.NextDeliveries = s.cfg.PathPrefix + apiPath + "/deliveries?event_id=" + view.WebhookID + "&cursor=" + cursor
	}
	setBodyETag(c)
	return c.JSON(view)
}

// getEventByToken responds with an event to a caller that has the token of a skinny payload.
func (s *Server) getEventByToken(c *fiber.Ctx) error {
	c.Set(fiber.HeaderCacheControl, "no-store")
	ev, err := s.engine.EventByToken(c.UserContext(), c.Params("id"), c.Query("token"))
	if err != nil {
		return err
	}
	return c.JSON(api.EventByToken{
		ID: ev.PublicID(), WebhookID: ev.ID.Format(engine.EventPrefix), Type: ev.Type, Time: ev.Time, Data: ev.Data,
	})
}
