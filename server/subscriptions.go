package server

import (
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/gofiber/fiber/v2"

	"switchhook/engine"
	"switchhook/engine/catalog"
	"switchhook/engine/signature"
	"switchhook/engine/snowflake"
	"switchhook/scripts"
	"switchhook/server/api"
	"switchhook/server/wire"
)

// subscriptionView is a subscription as the API shows it: its members, and the same values under the
// names that its client uses.
type subscriptionView struct {
	api.Subscription
	aliases []aliasField
}

// viewNames are the members of a subscription.
var viewNames = wire.Names(&api.Subscription{})

// MarshalJSON implements json.Marshaler.
func (v subscriptionView) MarshalJSON() ([]byte, error) {
	text, err := encodeJSON(v.Subscription)
	if err != nil {
		return nil, err
	}
	for _, e := range v.aliases {
		value, err := encodeJSON(e.value)
		if err != nil {
			return nil, err
		}
		text = append(strconv.AppendQuote(append(text[:len(text)-1], ','), e.name), ':')
		text = append(append(text, value...), '}')
	}
	return text, nil
}

// subscriptionPath returns the path of a subscription.
func subscriptionPath(id string) string { return apiPath + "/subscriptions/" + id }

// redacted replaces a header value that is a credential. Sent back, it means the stored value.
const redacted = engine.RedactedValue

// viewSubscription returns a subscription as a caller sees it; the target URL is complete only for callers
// that may change it.
func (s *Server) viewSubscription(who caller, sub *engine.Subscription) subscriptionView {
	if !who.Has(engine.ScopeSubscribe) {
		masked := *sub
		masked.TargetURL, sub = engine.MaskURL(sub.TargetURL), &masked
	}
	id := sub.ID.Format(engine.SubscriptionPrefix)
	kind, public := signature.Describe(sub.Secret)
	v := subscriptionView{aliases: aliasFields(sub), Subscription: api.Subscription{
		ID: id, Href: s.cfg.PathPrefix + subscriptionPath(id), Account: sub.Account, Dialect: sub.Dialect,
		Events: sub.Events, TargetURL: sub.TargetURL, Active: sub.Active, InactiveReason: sub.Reason,
		ExpiresAt: timeOrNull(sub.ExpiresAt), CreatedAt: sub.CreatedAt, UpdatedAt: sub.UpdatedAt,
		Filter: sub.Filter, FilterScript: s.viewRef(sub.Account, sub.FilterScript),
		Transform: sub.Transform, TransformScript: s.viewRef(sub.Account, sub.TransformScript),
		SecretType: string(kind), PublicKey: public, Signatures: []string{string(signature.Standard)},
		Headers: sub.ShownHeaders(), VisibleHeaders: append([]string{}, sub.VisibleHeaders...),
		PayloadFormat: string(sub.PayloadFormat), Numbered: sub.Numbered,
		Policy: wire.FromPolicy(&sub.Policy), Batch: wire.FromBatch(sub.Batch), Debounce: wire.FromDebounce(sub.Debounce),
		Description: sub.Description, Metadata: viewMetadata(sub), Verification: viewVerification(sub.Verification),
		Health: viewHealth(s.engine.Health(sub.ID)), Quarantine: s.engine.Quarantined(sub.ID), Unreadable: sub.Unreadable,
	}}
	if len(sub.Signatures) > 0 {
		v.Signatures = texts(sub.Signatures)
	}
	if len(sub.Events) == 1 {
		v.Event = &sub.Events[0]
	}
	if n, last := s.engine.FilterErrors(sub.ID); n > 0 {
		v.FilterErrors = &api.FilterErrors{Count: n, Last: last}
	}
	return v
}

// texts converts a list of names.
func texts[T ~string](list []T) []string {
	converted := make([]string, len(list))
	for i, name := range list {
		converted[i] = string(name)
	}
	return converted
}

func viewHealth(h engine.Health) api.TargetHealth {
	return api.TargetHealth{
		State: string(h.State()), Cause: string(h.Cause), WaitsFor: string(h.WaitsFor), FailingSince: timeOrNull(h.FailingSince), Failures: h.Failures,
		LastError: h.LastError, NextProbeAt: timeOrNull(h.NextProbeAt),
	}
}

// eventTypeEntry is an event type that can be subscribed to. The first page of subscriptions lists
// them, as the REST Hooks pattern has it.
type eventTypeEntry struct {
	Name        string `json:"name"`
	Description string `json:"description"`
}

func (s *Server) listSubscriptions(c *fiber.Ctx, who caller) error {
	account, err := who.listAccount(c)
	if err != nil {
		return err
	}
	q, err := s.readSubscriptionQuery(c, account)
	if err != nil {
		return err
	}
	find, skip := q.find, q.skip()
	if len(q.client) > 0 || skip > 0 {
		find.Limit = math.MaxInt
	}
	found := slices.DeleteFunc(s.engine.Subscriptions(find), func(sub *engine.Subscription) bool { return !matchesClient(sub, q.client) })
	found = found[min(skip, len(found)):]
	found = found[:min(q.find.Limit, len(found))]
	cursor := func(sub *engine.Subscription) string { return sub.ID.Format(engine.SubscriptionPrefix) }
	view := func(sub *engine.Subscription) subscriptionView { return s.viewSubscription(who, sub) }
	answer, err := pageOf(found, q.find.Limit-1, "", cursor, view)
	if err != nil {
		return err
	}
	if q.page > 0 && answer.entries < min(len(found), q.find.Limit-1) { // the next number would skip entries
		return invalidField("page", fmt.Sprintf("%d is larger than %s: take smaller pages, or follow next_cursor", q.page, byteSize(pageBytes)))
	}
	if find.After != 0 || skip > 0 {
		return answerPage(c, answer)
	}
	types := []eventTypeEntry{}
	for _, t := range s.engine.EventTypes() {
		types = append(types, eventTypeEntry{t.Name, t.Description})
	}
	return answerPage(c, answer, "event_types", types)
}

func (s *Server) createSubscription(c *fiber.Ctx, who caller) error {
	again, err := boolParam(c, "allow_duplicates")
	if err != nil {
		return err
	}
	words, err := readSubscription(c, nil)
	if err != nil {
		return err
	}
	sub := &engine.Subscription{}
	words.saveAliases(sub)
	in, err := words.decode(sub)
	if err == nil {
		sub.Account, err = who.ownerAccount(c, in.Account)
	}
	if err == nil {
		err = s.apply(in, sub, true)
	}
	created := false
	if err == nil {
		sub, created, err = s.storeSubscription(c, sub, in, again)
	}
	if err != nil {
		return words.withClientFieldNames(err)
	}
	view := s.viewSubscription(who, sub)
	c.Location(subscriptionPath(view.ID))
	setETag(c, sub.Version)
	if !created {
		view.SecretHref = view.Href + "/secret"
		asNamed := *sub
		asNamed.Names = words.names
		view.aliases = aliasFields(&asNamed)
		return c.JSON(view)
	}
	view.Secret, view.Warnings = sub.Secret, scripts.Warnings(sub.Transform)
	return c.Status(fiber.StatusCreated).JSON(view)
}

// storeSubscription creates a subscription or returns an existing duplicate, unless the request asks for a
// second one.
func (s *Server) storeSubscription(
	c *fiber.Ctx, sub *engine.Subscription, in *subscriptionInput, again bool,
) (_ *engine.Subscription, created bool, err error) {
	if again {
		sub, err = s.engine.CreateSubscription(c.UserContext(), sub)
		return sub, true, err
	}
	return s.engine.EnsureSubscription(c.UserContext(), sub, catalog.EnsureOptions{NewSecret: in.Secret.Or("") == ""})
}

// boolParam parses a boolean query parameter; false if it is missing.
func boolParam(c *fiber.Ctx, name string) (bool, error) {
	switch c.Query(name) {
	case "", "false":
		return false, nil
	case "true":
		return true, nil
	}
	return false, invalidField(name, "must be true or false")
}

func (s *Server) getSubscription(c *fiber.Ctx, who caller) error {
	sub, err := s.subscription(c, who)
	if err != nil {
		return err
	}
	setETag(c, sub.Version)
	return c.JSON(s.viewSubscription(who, sub))
}

// subscription returns the subscription in the path.
func (s *Server) subscription(c *fiber.Ctx, who caller) (*engine.Subscription, error) {
	id, err := subscriptionID(c)
	if err != nil {
		return nil, err
	}
	return s.engine.Subscription(who.accountScope(), id)
}

func subscriptionID(c *fiber.Ctx) (engine.ID, error) {
	text := c.Params("id")
	id, ok := snowflake.Parse(engine.SubscriptionPrefix, text)
	if !ok {
		return 0, engine.NotFound("subscription", truncate(text))
	}
	return id, nil
}

// truncate shortens client input for use in a message.
func truncate(text string) string { return fmt.Sprintf("%.60s", text) }

func (s *Server) replaceSubscription(c *fiber.Ctx, who caller) error {
	return s.changeSubscription(c, who, true)
}

func (s *Server) updateSubscription(c *fiber.Ctx, who caller) error {
	return s.changeSubscription(c, who, false)
}

func (s *Server) changeSubscription(c *fiber.Ctx, who caller, replace bool) error {
	id, err := subscriptionID(c)
	if err != nil {
		return err
	}
	stored, _ := s.engine.Subscription(who.accountScope(), id) // a missing one is reported below
	words, err := readSubscription(c, stored)
	if err != nil {
		return err
	}
	version, err := ifMatch(c)
	if err != nil {
		return err
	}
	sub, err := s.engine.UpdateSubscription(c.UserContext(), who.accountScope(), id, version, func(sub *engine.Subscription) error {
		words.saveAliases(sub)
		_, err := s.change(words, sub, replace)
		return err
	})
	if err != nil {
		return words.withClientFieldNames(err)
	}
	setETag(c, sub.Version)
	view := s.viewSubscription(who, sub)
	view.Warnings = scripts.Warnings(sub.Transform)
	return c.JSON(view)
}

// change applies a translated body to a subscription.
func (s *Server) change(words *aliasTranslation, sub *engine.Subscription, replace bool) (*subscriptionInput, error) {
	base := sub
	if replace {
		base = &engine.Subscription{}
	}
	in, err := words.decode(base)
	if err != nil {
		return nil, err
	}
	return in, s.apply(in, sub, replace)
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
	if err := s.engine.DeleteSubscription(c.UserContext(), who.accountScope(), id, version); err != nil {
		return err
	}
	return c.SendStatus(fiber.StatusNoContent)
}
