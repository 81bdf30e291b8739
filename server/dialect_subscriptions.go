package server

import (
	"math"
	"slices"
	"strings"

	"github.com/gofiber/fiber/v2"

	"switchhook/engine"
	"switchhook/engine/catalog"
	"switchhook/engine/snowflake"
	"switchhook/scripts/jsonindex"
	"switchhook/server/dialect"
)

func (s *Server) dialectSubscribe(c *fiber.Ctx, who caller, d *dialect.Dialect, op *dialect.Operation) error {
	words, err := readDialect(c, d, op, d.Fixed)
	if err != nil {
		return err
	}
	sub := &engine.Subscription{Account: who.Account, Dialect: d.Name}
	in, err := s.change(words, sub, true)
	if err != nil {
		return words.withClientFieldNames(err)
	}
	sub, created, err := s.engine.EnsureSubscription(c.UserContext(), sub, catalog.EnsureOptions{NewSecret: in.Secret.Or("") == "", UniqueEvents: op.Unique})
	if err != nil {
		return words.withClientFieldNames(err)
	}
	view := s.viewSubscription(who, sub)
	if created {
		view.Secret = sub.Secret
	}
	if path := d.Resource(); path != "" && op.Status == fiber.StatusCreated {
		c.Location(strings.Replace(path, "{id}", view.ID, 1))
	}
	return s.dialectAnswer(c, op, view)
}

func (s *Server) dialectUpdate(c *fiber.Ctx, who caller, d *dialect.Dialect, op *dialect.Operation, id string) error {
	stored, err := s.dialectSubscription(who, d, id)
	if err != nil {
		return err
	}
	words, err := readDialect(c, d, op, jsonindex.Value{})
	if err != nil {
		return err
	}
	sub, err := s.engine.UpdateSubscription(c.UserContext(), who.Account, stored.ID, catalog.AnyVersion, func(sub *engine.Subscription) error {
		_, err := s.change(words, sub, false)
		return err
	})
	if err != nil {
		return words.withClientFieldNames(err)
	}
	return s.dialectAnswer(c, op, s.viewSubscription(who, sub))
}

// dialectUnsubscribe deletes the subscription that the path or the body identifies by id, or those
// that the body identifies by target (and event, if given).
func (s *Server) dialectUnsubscribe(c *fiber.Ctx, who caller, d *dialect.Dialect, op *dialect.Operation, id string) error {
	var targets []*engine.Subscription
	said := map[string]string{}
	if id == "" {
		body, err := readBodyOrQuery(c)
		if err != nil {
			return err
		}
		for ours, theirs := range op.Request {
			said[ours] = find(body.Root(), theirs).Text()
			if j, ok := op.Joined[ours]; ok {
				said[ours] = joined(body.Root(), j).Text()
			}
		}
		id = said["id"]
	}
	switch {
	case id != "":
		sub, err := s.dialectSubscription(who, d, id)
		if err != nil {
			return err
		}
		targets = append(targets, sub)
	case said["target_url"] != "":
		targets = s.engine.Subscriptions(catalog.SubscriptionQuery{Account: who.Account, Dialect: d.Name, TargetURL: said["target_url"], Event: said["event"], Limit: math.MaxInt})
		if len(targets) == 0 {
			return engine.NotFound("subscription", truncate(said["target_url"]))
		}
	default:
		return newProblem(fiber.StatusUnprocessableEntity, "the body does not identify the subscription to delete: give "+given(op, "id", "target_url"))
	}
	for _, sub := range targets {
		err := s.engine.DeleteSubscription(c.UserContext(), who.Account, sub.ID, catalog.AnyVersion)
		if err != nil && (len(targets) == 1 || engine.ErrorCode(err) != engine.CodeNotFound) {
			return err
		}
	}
	return s.dialectAnswer(c, op, subscriptionView{})
}

// given lists the names that an operation's clients use for our members.
func given(op *dialect.Operation, ours ...string) string {
	var names []string
	for _, name := range ours {
		if theirs := op.Request[name]; theirs != "" {
			names = append(names, theirs)
		}
	}
	return strings.Join(names, " or ")
}

// dialectSubscription returns a subscription of the caller's account that was created in d.
func (s *Server) dialectSubscription(who caller, d *dialect.Dialect, id string) (*engine.Subscription, error) {
	parsed, ok := snowflake.Parse(engine.SubscriptionPrefix, id)
	if !ok {
		return nil, engine.NotFound("subscription", truncate(id))
	}
	sub, err := s.engine.Subscription(who.Account, parsed)
	if err == nil && sub.Dialect != d.Name {
		return nil, engine.NotFound("subscription", truncate(id))
	}
	return sub, err
}

// maxDialectPage is the default page size of a dialect's list; its clients don't know pagination.
const maxDialectPage = 1000

func (s *Server) dialectList(c *fiber.Ctx, who caller, d *dialect.Dialect, op *dialect.Operation) error {
	all := catalog.SubscriptionQuery{Account: who.Account, Dialect: d.Name, Limit: math.MaxInt}
	scope := dialect.Scope{Lists: map[string][]jsonindex.Value{}}
	if op.Answer.Uses("subscriptions") {
		q := &query{c: c}
		all.After = q.id("cursor", engine.SubscriptionPrefix)
		limit := maxDialectPage
		if c.Query("limit") != "" {
			limit = q.limit()
		}
		if q.err != nil {
			return q.err
		}
		all.Limit = limit + 1
		found := s.engine.Subscriptions(all)
		if len(found) > limit {
			found = found[:limit]
			linkNext(c, found[limit-1].ID.Format(engine.SubscriptionPrefix))
		}
		size := 0
		for i, sub := range found {
			v, err := asValue(s.viewSubscription(who, sub))
			if err != nil {
				return err
			}
			if size += len(v.Raw()); i > 0 && size > pageBytes {
				linkNext(c, found[i-1].ID.Format(engine.SubscriptionPrefix))
				break
			}
			scope.Lists["subscriptions"] = append(scope.Lists["subscriptions"], v)
		}
	}
	if op.Answer.Uses("event_types") {
		all.After, all.Limit = 0, math.MaxInt
		mine := s.engine.Subscriptions(all)
		for _, t := range s.engine.EventTypes() {
			if engine.Operational(t.Name) {
				continue // the original service had no inline targets
			}
			v, err := asValue(s.catalogueEntry(who, t, mine))
			if err != nil {
				return err
			}
			scope.Lists["event_types"] = append(scope.Lists["event_types"], v)
		}
	}
	return sendAnswer(c, op, scope)
}

// catalogueEntry is an event type in the form of $event_type: dialect.EventTypeMembers.
type catalogueEntry struct {
	Name         string            `json:"name"`
	Description  string            `json:"description"`
	Subscribed   bool              `json:"subscribed"`   // to an active subscription
	Subscription *subscriptionView `json:"subscription"` // the oldest, preferably an active one
}

func (s *Server) catalogueEntry(who caller, t *engine.EventType, mine []*engine.Subscription) catalogueEntry {
	e := catalogueEntry{Name: t.Name, Description: t.Description}
	for _, sub := range mine {
		if e.Subscribed || e.Subscription != nil && !sub.Active || !slices.ContainsFunc(sub.Events, func(p string) bool { return engine.MatchesPattern(p, t.Name) }) {
			continue
		}
		view := s.viewSubscription(who, sub)
		e.Subscription, e.Subscribed = &view, sub.Active
	}
	return e
}
