package server

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/gofiber/fiber/v2"

	"switchhook/engine"
	"switchhook/engine/snowflake"
)

// missingStatus selects, among a replay's delivery statuses, events that match a subscription and have no
// delivery to it.
const missingStatus = "missing"

// replayView is a replay as the API shows it.
type replayView struct {
	ID            string     `json:"id"`
	Account       string     `json:"account"`
	Status        string     `json:"status"` // running, paused, completed, cancelled
	Progress      float64    `json:"progress"`
	Looked        int64      `json:"looked"`
	Queued        int64      `json:"queued"`
	Error         string     `json:"error,omitempty"`
	Subscriptions []string   `json:"subscriptions"`
	To            *string    `json:"to"` // null if deliveries go to their own subscriptions
	Since         *time.Time `json:"since"`
	Until         time.Time  `json:"until"`
	EventTypes    []string   `json:"event_types"`
	Deliveries    []string   `json:"delivery_status"`
	Filter        string     `json:"filter"`
	Rate          int        `json:"rate"` // events per second
	CreatedAt     time.Time  `json:"created_at"`
	UpdatedAt     time.Time  `json:"updated_at"`
	FinishedAt    *time.Time `json:"finished_at"`
}

func viewReplay(r *engine.Replay) replayView {
	v := replayView{
		ID: r.ID.Format(engine.ReplayPrefix), Account: r.Account, Status: string(r.Status), Progress: r.Progress(),
		Looked: r.Looked, Queued: r.Queued, Error: r.Error, Subscriptions: []string{}, Until: r.Until.UTC(), EventTypes: []string{}, Deliveries: []string{},
		Filter: r.Filter, Rate: r.Rate, CreatedAt: r.CreatedAt, UpdatedAt: r.UpdatedAt,
	}
	for _, id := range r.Subscriptions {
		v.Subscriptions = append(v.Subscriptions, id.Format(engine.SubscriptionPrefix))
	}
	if r.To != 0 {
		to := r.To.Format(engine.SubscriptionPrefix)
		v.To = &to
	}
	if !r.Since.IsZero() {
		v.Since = &r.Since
	}
	v.EventTypes = append(v.EventTypes, r.EventTypes...)
	for _, s := range r.States {
		v.Deliveries = append(v.Deliveries, s.String())
	}
	if r.Missing {
		v.Deliveries = append(v.Deliveries, missingStatus)
	}
	if !r.FinishedAt.IsZero() {
		v.FinishedAt = &r.FinishedAt
	}
	return v
}

// replayInput is the request body of a replay.
type replayInput struct {
	Subscription  string    `json:"subscription"`
	Subscriptions []string  `json:"subscriptions"`
	To            string    `json:"to"`
	Since         timestamp `json:"since"`
	Until         timestamp `json:"until"`
	EventTypes    []string  `json:"event_types"`
	Deliveries    []string  `json:"delivery_status"`
	Status        []string  `json:"status"` // alias of delivery_status; a replay's own status has the same name
	Filter        string    `json:"filter"`
	Rate          int       `json:"rate"`
}

func (in *replayInput) replay(account string) (r engine.Replay, err error) {
	r = engine.Replay{Account: account, Since: in.Since.Time, Until: in.Until.Time, EventTypes: in.EventTypes, Filter: in.Filter, Rate: in.Rate}
	if in.Subscription != "" {
		in.Subscriptions = append(in.Subscriptions, in.Subscription)
	}
	for i, text := range in.Subscriptions {
		id, ok := snowflake.Parse(engine.SubscriptionPrefix, text)
		if !ok {
			return r, invalidField(fmt.Sprintf("subscriptions[%d]", i), fmt.Sprintf("%q is no id of a subscription", truncate(text)))
		}
		r.Subscriptions = append(r.Subscriptions, id)
	}
	if in.To != "" {
		var ok bool
		if r.To, ok = snowflake.Parse(engine.SubscriptionPrefix, in.To); !ok {
			return r, invalidField("to", fmt.Sprintf("%q is no id of a subscription", truncate(in.To)))
		}
	}
	wanted, field := in.Deliveries, "delivery_status"
	if in.Status != nil {
		if in.Deliveries != nil {
			return r, invalidField("status", "and delivery_status are both given, and mean the same; give one of them")
		}
		wanted, field = in.Status, "status"
	}
	for i, text := range wanted {
		state, ok := engine.ParseState(text)
		switch {
		case text == missingStatus && !r.Missing:
			r.Missing = true
		case ok && state != engine.StatePending:
			r.States = append(r.States, state)
		default:
			return r, invalidField(fmt.Sprintf("%s[%d]", field, i), fmt.Sprintf(`%q can't be replayed: name each of "dead", "retrying", "succeeded", "dropped" and "missing" once at most`, truncate(text)))
		}
	}
	return r, nil
}

func (s *Server) createReplay(c *fiber.Ctx, who caller) error {
	var in replayInput
	present, err := readObject(c, &in)
	if err == nil {
		err = cmp.Or(notZero(present, "rate"), notEmpty(present, "subscription", "to"))
	}
	if err != nil {
		return err
	}
	asked, err := in.replay(who.accountScope())
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
	find := engine.ReplayQuery{Account: account, Since: q.since("since"), Before: before(q.id("cursor", engine.ReplayPrefix), q.since("until")), Limit: q.limit() + 1}
	if q.err != nil {
		return q.err
	}
	found, err := s.engine.Replays(c.UserContext(), find)
	if err != nil {
		return err
	}
	cursor := func(r *engine.Replay) string { return r.ID.Format(engine.ReplayPrefix) }
	return answerPage(c, pageOf(found, find.Limit-1, cursor, viewReplay))
}

func (s *Server) getReplay(c *fiber.Ctx, who caller) error {
	return s.withReplay(c, who, s.engine.Replay)
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
