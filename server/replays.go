package server

import (
	"context"
	"fmt"

	"github.com/gofiber/fiber/v2"

	"switchhook/engine"
	"switchhook/engine/snowflake"
	"switchhook/server/api"
)

func viewReplay(r *engine.Replay) api.Replay {
	v := api.Replay{
		ID: r.ID.Format(engine.ReplayPrefix), Account: r.Account, Status: api.ReplayStatus(r.Status), Progress: r.Progress(),
		Examined: r.Looked, Queued: r.Queued, Error: r.Error, SubscriptionIDs: []string{}, Since: timeOrNull(r.Since), Until: r.Until.UTC(),
		EventTypes: append([]string{}, r.EventTypes...), DeliveryStatus: []api.DeliveryStatus{}, Filter: r.Filter, Rate: r.Rate,
		CreatedAt: r.CreatedAt, UpdatedAt: r.UpdatedAt, FinishedAt: timeOrNull(r.FinishedAt),
	}
	for _, id := range r.Subscriptions {
		v.SubscriptionIDs = append(v.SubscriptionIDs, id.Format(engine.SubscriptionPrefix))
	}
	if r.To != 0 {
		v.TargetSubscriptionID = new(r.To.Format(engine.SubscriptionPrefix))
	}
	for _, s := range r.States {
		v.DeliveryStatus = append(v.DeliveryStatus, api.DeliveryStatus(s.String()))
	}
	if r.Missing {
		v.DeliveryStatus = append(v.DeliveryStatus, api.DeliveryMissing)
	}
	return v
}

// replayOf returns the replay that a request describes. Errors name every wrong member.
func replayOf(in *api.CreateReplayRequest, account string) (engine.Replay, error) {
	r := engine.Replay{Account: account, EventTypes: in.EventTypes, Filter: in.Filter, Rate: in.Rate}
	var errs engine.FieldErrors
	subscription := func(field, text string) engine.ID {
		id, ok := snowflake.Parse(engine.SubscriptionPrefix, text)
		if !ok {
			errs.Add(field, engine.FieldInvalid, "%q is not an id of a subscription", truncate(text))
		}
		return id
	}
	for i, text := range in.SubscriptionIDs {
		r.Subscriptions = append(r.Subscriptions, subscription(fmt.Sprintf("subscription_ids[%d]", i), text))
	}
	if in.TargetSubscriptionID != "" {
		r.To = subscription("target_subscription_id", in.TargetSubscriptionID)
	}
	if in.Since != nil {
		r.Since = *in.Since
	}
	if in.Until != nil {
		r.Until = *in.Until
	}
	for i, text := range in.DeliveryStatus {
		state, ok := engine.ParseState(string(text))
		switch {
		case text == api.DeliveryMissing && !r.Missing:
			r.Missing = true
		case ok && state != engine.StatePending:
			r.States = append(r.States, state)
		default:
			errs.Add(fmt.Sprintf("delivery_status[%d]", i), engine.FieldInvalid, `%q can't be replayed: name each of "dead", "retrying", "succeeded", "dropped" and "missing" once at most`, truncate(string(text)))
		}
	}
	return r, errs.Err()
}

func (s *Server) createReplay(c *fiber.Ctx, who caller) error {
	var in api.CreateReplayRequest
	if _, err := readObject(c, &in); err != nil {
		return err
	}
	asked, err := replayOf(&in, who.accountScope())
	if err != nil {
		return err
	}
	r, err := s.engine.StartReplay(c.UserContext(), asked)
	if err != nil {
		return err
	}
	view := viewReplay(r)
	c.Location(apiPath + "/replays/" + view.ID)
	return c.Status(fiber.StatusAccepted).JSON(view)
}

func (s *Server) listReplays(c *fiber.Ctx, who caller) error {
	account, err := who.listAccount(c)
	if err != nil {
		return err
	}
	q := s.readQuery(c, "since", "until")
	find := engine.ReplayQuery{Account: account, Since: q.since("since"), Before: before(q.id("cursor", engine.ReplayPrefix), q.since("until")), Limit: q.limit(), MaxBytes: pageBytes}
	if q.err != nil {
		return q.err
	}
	found, next, err := s.engine.Replays(c.UserContext(), find)
	if err != nil {
		return err
	}
	cursor := func(r *engine.Replay) string { return r.ID.Format(engine.ReplayPrefix) }
	return pageAnswer(c)(pageOf(found, find.Limit, idCursor(next, engine.ReplayPrefix), cursor, viewReplay))
}

func (s *Server) getReplay(c *fiber.Ctx, who caller) error {
	err := s.withReplay(c, who, s.engine.Replay)
	if err == nil {
		setBodyETag(c)
	}
	return err
}

func (s *Server) pauseReplay(c *fiber.Ctx, who caller) error {
	return s.withReplay(c, who, s.engine.PauseReplay)
}

func (s *Server) resumeReplay(c *fiber.Ctx, who caller) error {
	return s.withReplay(c, who, s.engine.ResumeReplay)
}

func (s *Server) cancelReplay(c *fiber.Ctx, who caller) error {
	return s.withReplay(c, who, s.engine.CancelReplay)
}

// withReplay runs an action on the replay in the path and responds with its state.
func (s *Server) withReplay(c *fiber.Ctx, who caller, do func(context.Context, string, engine.ID) (*engine.Replay, error)) error {
	id, ok := snowflake.Parse(engine.ReplayPrefix, c.Params("id"))
	if !ok {
		return engine.NotFound("replay", truncate(c.Params("id")))
	}
	r, err := do(c.UserContext(), who.accountScope(), id)
	if err != nil {
		return err
	}
	return c.JSON(viewReplay(r))
}
