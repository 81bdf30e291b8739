package server

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"switchhook/engine"
	"switchhook/scripts/jsondoc"
)

// subscriptionView is a subscription as the API shows it.
type subscriptionView struct {
	ID             string            `json:"id"`
	Event          *string           `json:"event"` // null where there are several
	Events         []string          `json:"events"`
	TargetURL      string            `json:"target_url"`
	Account        string            `json:"account"`
	Active         bool              `json:"active"`
	InactiveReason string            `json:"inactive_reason,omitempty"`
	Filter         string            `json:"filter"`
	Transform      string            `json:"transform"`
	Secret         string            `json:"secret,omitempty"` // in the answer to its making only
	Headers        map[string]string `json:"headers"`
	PayloadFormat  string            `json:"payload_format"`
	Description    string            `json:"description"`
	Metadata       map[string]string `json:"metadata"`
	FilterErrors   *filterErrors     `json:"filter_errors,omitempty"`
	Quarantine     string            `json:"quarantine,omitempty"` // why deliveries wait for a new version of the transform
	CreatedAt      time.Time         `json:"created_at"`
	UpdatedAt      time.Time         `json:"updated_at"`
}

type filterErrors struct {
	Count int64  `json:"count"`
	Last  string `json:"last"`
}

// hidden stands for a header's value that is a credential. Sent back, it means the value
// that is stored.
const hidden = "[hidden]"

func (s *Server) viewSubscription(sub *engine.Subscription) subscriptionView {
	v := subscriptionView{
		ID: sub.ID.Format(engine.SubscriptionPrefix), Events: sub.Events, TargetURL: sub.TargetURL, Account: sub.Account,
		Active: sub.Active, InactiveReason: sub.Reason, Filter: sub.Filter, Transform: sub.Transform,
		Headers: map[string]string{}, PayloadFormat: string(sub.PayloadFormat),
		Description: sub.Description, Metadata: map[string]string{}, CreatedAt: sub.CreatedAt, UpdatedAt: sub.UpdatedAt,
	}
	if len(sub.Events) == 1 {
		v.Event = &sub.Events[0]
	}
	for name, value := range sub.Headers {
		if engine.HidesHeader(name) {
			value = hidden
		}
		v.Headers[name] = value
	}
	maps.Copy(v.Metadata, sub.Metadata)
	if n, last := s.engine.FilterErrors(sub.ID); n > 0 {
		v.FilterErrors = &filterErrors{n, last}
	}
	v.Quarantine = s.engine.Quarantined(sub.ID)
	return v
}

// subscriptionInput is what a client may say of a subscription.
type subscriptionInput struct {
	Event         eventNames         `json:"event"`
	Events        eventNames         `json:"events"`
	TargetURL     string             `json:"target_url"`
	Account       string             `json:"account"`
	Active        *bool              `json:"active"`
	Filter        string             `json:"filter"`
	Transform     string             `json:"transform"`
	Secret        string             `json:"secret"`
	Headers       map[string]*string `json:"headers"`
	PayloadFormat string             `json:"payload_format"`
	Description   string             `json:"description"`
	Metadata      map[string]*string `json:"metadata"`
}

// eventNames reads one name or a list of them.
type eventNames []string

// UnmarshalJSON implements json.Unmarshaler.
func (n *eventNames) UnmarshalJSON(b []byte) error {
	var one string
	if err := json.Unmarshal(b, &one); err == nil {
		if one != "" {
			*n = eventNames{one}
		}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(n))
}

// names gives the event types that the input names, under either of its two members.
func (in *subscriptionInput) names() ([]string, error) {
	if len(in.Event) > 0 && len(in.Events) > 0 && !slices.Equal(in.Event, in.Events) {
		return nil, fieldProblem("event", "and events name different event types; give one of them")
	}
	if len(in.Event) > 0 {
		return in.Event, nil
	}
	return in.Events, nil
}

// apply carries what the input says over to sub: all of it where present is nil, the
// members present otherwise.
func (in *subscriptionInput) apply(sub *engine.Subscription, present map[string]jsondoc.Value) error {
	given := func(name string) bool { return present == nil || present[name].Exists() }
	if given("event") || given("events") {
		names, err := in.names()
		if err != nil {
			return err
		}
		sub.Events = names
	}
	if in.Account != "" && in.Account != sub.Account {
		return fieldProblem("account", "can't be changed; make a new subscription there")
	}
	if given("target_url") {
		sub.TargetURL = in.TargetURL
	}
	if given("active") {
		sub.Active = in.Active == nil || *in.Active
	}
	if given("filter") {
		sub.Filter = strings.TrimSpace(in.Filter)
	}
	if given("transform") {
		sub.Transform = in.Transform
		if strings.TrimSpace(in.Transform) == "" {
			sub.Transform = ""
		}
	}
	if in.Secret != "" { // left out it stays: nobody can read it to send it back
		sub.Secret = in.Secret
	}
	if given("headers") {
		sub.Headers = merge(sub.Headers, in.Headers, present == nil || in.Headers == nil)
	}
	if given("payload_format") {
		sub.PayloadFormat = engine.PayloadFormat(in.PayloadFormat)
	}
	if given("description") {
		sub.Description = in.Description
	}
	if given("metadata") {
		sub.Metadata = merge(sub.Metadata, in.Metadata, present == nil || in.Metadata == nil)
	}
	return nil
}

// merge follows RFC 7396: null takes a member away. With replace nothing old stays. A
// hidden value stands for the old one.
func merge(old map[string]string, change map[string]*string, replace bool) map[string]string {
	merged := map[string]string{}
	if !replace {
		maps.Copy(merged, old)
	}
	for k, v := range change {
		switch {
		case v == nil:
			delete(merged, k)
		case *v == hidden && old[k] != "":
			merged[k] = old[k]
		default:
			merged[k] = *v
		}
	}
	return merged
}

// subscriptionPage is the list of subscriptions and, as the REST Hooks pattern has it at
// this address, of the event types that one can subscribe to.
type subscriptionPage struct {
	page
	EventTypes []eventTypeEntry `json:"event_types"`
}

type eventTypeEntry struct {
	Name        string `json:"name"`
	Description string `json:"description"`
}

func (s *Server) listSubscriptions(c *fiber.Ctx, who caller) error {
	account, err := who.lists(c)
	if err != nil {
		return err
	}
	q := readQuery(c, "event", "active", "target_url")
	find := engine.SubscriptionQuery{
		Account: account, Event: q.text("event"), TargetURL: q.text("target_url"),
		After: q.id("cursor", engine.SubscriptionPrefix), Limit: q.limit() + 1,
	}
	switch active := c.Query("active"); active {
	case "":
	case "true", "false":
		want := active == "true"
		find.Active = &want
	default:
		q.fail("active", "must be true or false")
	}
	if q.err != nil {
		return q.err
	}
	found := s.engine.Subscriptions(find)
	answer := subscriptionPage{EventTypes: []eventTypeEntry{}}
	if len(found) == find.Limit {
		found = found[:len(found)-1]
		cursor := found[len(found)-1].ID.Format(engine.SubscriptionPrefix)
		answer.NextCursor = &cursor
	}
	views := make([]subscriptionView, len(found))
	for i, sub := range found {
		views[i] = s.viewSubscription(sub)
	}
	answer.Data = views
	for _, t := range s.engine.EventTypes() {
		answer.EventTypes = append(answer.EventTypes, eventTypeEntry{t.Name, t.Description})
	}
	return c.JSON(answer)
}

func (s *Server) createSubscription(c *fiber.Ctx, who caller) error {
	var in subscriptionInput
	if _, err := readObject(c, &in); err != nil {
		return err
	}
	account, err := who.owns(in.Account)
	if err != nil {
		return err
	}
	sub := &engine.Subscription{Account: account}
	if err := in.apply(sub, nil); err != nil {
		return err
	}
	sub, err = s.engine.CreateSubscription(c.UserContext(), sub)
	if err != nil {
		return err
	}
	view := s.viewSubscription(sub)
	view.Secret = sub.Secret
	c.Location(apiPath + "/subscriptions/" + view.ID)
	setETag(c, sub.Version)
	return c.Status(fiber.StatusCreated).JSON(view)
}

func (s *Server) getSubscription(c *fiber.Ctx, who caller) error {
	sub, err := s.subscription(c, who)
	if err != nil {
		return err
	}
	setETag(c, sub.Version)
	return c.JSON(s.viewSubscription(sub))
}

// subscription finds the one that the path names.
func (s *Server) subscription(c *fiber.Ctx, who caller) (*engine.Subscription, error) {
	id, err := subscriptionID(c)
	if err != nil {
		return nil, err
	}
	return s.engine.Subscription(who.sees(), id)
}

func subscriptionID(c *fiber.Ctx) (engine.ID, error) {
	text := c.Params("id")
	id, ok := engine.ParseID(engine.SubscriptionPrefix, text)
	if !ok {
		return 0, engine.NotFound("subscription", shown(text))
	}
	return id, nil
}

// shown cuts what came from outside for use in a message.
func shown(text string) string { return fmt.Sprintf("%.60s", text) }

func (s *Server) replaceSubscription(c *fiber.Ctx, who caller) error {
	return s.changeSubscription(c, who, false)
}

func (s *Server) patchSubscription(c *fiber.Ctx, who caller) error {
	return s.changeSubscription(c, who, true)
}

func (s *Server) changeSubscription(c *fiber.Ctx, who caller, patch bool) error {
	id, err := subscriptionID(c)
	if err != nil {
		return err
	}
	var in subscriptionInput
	present, err := readObject(c, &in)
	if err != nil {
		return err
	}
	if !patch {
		present = nil
	}
	version, err := ifMatch(c)
	if err != nil {
		return err
	}
	sub, err := s.engine.UpdateSubscription(c.UserContext(), who.sees(), id, version, func(sub *engine.Subscription) error {
		return in.apply(sub, present)
	})
	if err != nil {
		return err
	}
	setETag(c, sub.Version)
	return c.JSON(s.viewSubscription(sub))
}

func (s *Server) deleteSubscription(c *fiber.Ctx, who caller) error {
	id, err := subscriptionID(c)
	if err != nil {
		return err
	}
	version, err := ifMatch(c)
	if err != nil {
		return err
	}
	if err := s.engine.DeleteSubscription(c.UserContext(), who.sees(), id, version); err != nil {
		return err
	}
	return c.SendStatus(fiber.StatusNoContent)
}

func (s *Server) getSecret(c *fiber.Ctx, who caller) error {
	sub, err := s.subscription(c, who)
	if err != nil {
		return err
	}
	c.Set(fiber.HeaderCacheControl, "no-store")
	return c.JSON(struct {
		Secret string `json:"secret"`
	}{sub.Secret})
}
