package server

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/gofiber/fiber/v2"

	"switchhook/engine"
	"switchhook/engine/evaluate"
	"switchhook/scripts/jsonindex"
	"switchhook/server/api"
)

const (
	defaultSamples = 3
	maxSamples     = 100
)

// listSamples responds with the bare list of payloads of an event type, as clients that load sample data
// expect it.
func (s *Server) listSamples(c *fiber.Ctx, who caller) error {
	account, err := who.listAccount(c)
	if err != nil {
		return err
	}
	q := s.readQuery(c, "payload_format", "subscription_id", "transform_script")
	limit := defaultSamples
	if c.Query("limit") != "" {
		if limit = c.QueryInt("limit"); limit < 1 || limit > maxSamples {
			q.fail("limit", fmt.Sprintf("must be a number from 1 to %d", maxSamples))
		}
	}
	if c.Query("cursor") != "" {
		q.fail("cursor", "is not allowed: samples are one page")
	}
	form := evaluate.SampleForm{Format: engine.PayloadFormat(q.text("payload_format")), Subscription: q.id("subscription_id", engine.SubscriptionPrefix)}
	script := q.text("transform_script")
	if form.Format != "" && form.Subscription != 0 || script != "" && (form.Format != "" || form.Subscription != 0) {
		q.fail("payload_format", ", subscription_id and transform_script each say what samples look like; give one of them")
	}
	if q.err != nil {
		return q.err
	}
	if form.Subscription != 0 {
		sub, err := s.engine.Subscription(who.accountScope(), form.Subscription)
		if err != nil {
			return err
		}
		account = sub.Account
	}
	if form.Transform, err = s.findRef("transform_script", account, &api.ScriptRef{ID: script}); err != nil {
		return err
	}
	bodies, err := s.engine.Samples(c.UserContext(), account, nameParam(c), form, limit)
	if err != nil {
		return err
	}
	c.Set(fiber.HeaderContentType, fiber.MIMEApplicationJSON)
	list := bytes.Join(bodies, []byte{','}) // as they are sent: an encoder would remove spaces
	return c.Send(slices.Concat([]byte{'['}, list, []byte("]\n")))
}

// testSubscription sends a test event to one subscription and responds with its delivery.
func (s *Server) testSubscription(c *fiber.Ctx, who caller) error {
	sub, err := s.subscription(c, who)
	if err != nil {
		return err
	}
	var in api.TestSubscriptionRequest
	var present map[string]jsonindex.Value
	if len(c.BodyRaw()) > 0 {
		if present, err = readObject(c, &in); err != nil {
			return err
		}
	}
	t := evaluate.PreviewRequest{Account: sub.Account, Subscription: sub.ID, EventSource: evaluate.EventSource{EventID: in.EventID, SampleType: in.Sample}}
	if present["event"].Exists() {
		if in.EventID != "" || in.Sample != "" {
			return invalidField("event", "is given, and event_id or sample as well; give one of the three")
		}
		if t.Event, err = readEvent(c, present["event"], who); err != nil {
			return inEvent(err)
		}
		if t.Event.Targets != nil {
			return invalidField("event.targets", "can't be given: the test goes to this subscription alone")
		}
	} else if in.EventID != "" && in.Sample != "" {
		return invalidField("event_id", "and sample are both given; give one of them")
	}
	d, a, err := s.engine.TestSend(c.UserContext(), t)
	if err != nil {
		return err
	}
	v := viewDelivery(d)
	v.Attempts = []api.Attempt{viewAttempt(who, a)}
	return c.JSON(v)
}
