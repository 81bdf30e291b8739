package server

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/gofiber/fiber/v2"

	"switchhook/engine"
	"switchhook/engine/catalog"
	"switchhook/engine/signature"
	"switchhook/engine/snowflake"
	"switchhook/scripts"
)

// subscriptionView is a subscription as the API shows it.
type subscriptionView struct {
	ID              string               `json:"id"`
	Href            string               `json:"href"`  // its path
	Event           *string              `json:"event"` // null if there are several
	Events          []string             `json:"events"`
	TargetURL       string               `json:"target_url"`
	Account         string               `json:"account"`
	Active          bool                 `json:"active"`
	InactiveReason  string               `json:"inactive_reason,omitempty"`
	Filter          string               `json:"filter"`
	FilterScript    *refView             `json:"filter_script"` // null without one
	Transform       string               `json:"transform"`
	Warnings        []scripts.Diagnostic `json:"warnings,omitempty"` // in the response to a change only
	TransformScript *refView             `json:"transform_script"`
	Secret          string               `json:"secret,omitempty"`      // in the response that creates it only
	SecretHref      string               `json:"secret_href,omitempty"` // where it is shown, in the response to a duplicate subscribe
	SecretType      string               `json:"secret_type"`
	PublicKey       string               `json:"public_key,omitempty"` // for receivers, if the secret is ed25519
	Signatures      []string             `json:"signatures"`
	Headers         map[string]string    `json:"headers"`
	VisibleHeaders  []string             `json:"visible_headers"` // whose values are not redacted
	PayloadFormat   string               `json:"payload_format"`
	Numbered        bool                 `json:"numbered"`
	Policy          policyView           `json:"policy"`
	Health          healthView           `json:"health"`
	Batch           *batchView           `json:"batch"`    // null: one event per POST
	Debounce        *debounceView        `json:"debounce"` // null: every event is sent
	Description     string               `json:"description"`
	Metadata        map[string]any       `json:"metadata"`
	Verification    *verificationView    `json:"verification,omitempty"` // if the target must confirm, or has
	FilterErrors    *filterErrors        `json:"filter_errors,omitempty"`
	Quarantine      string               `json:"quarantine,omitempty"` // why deliveries wait for a new version of the transform
	Unreadable      []string             `json:"unreadable,omitempty"` // stored parts that can't be decoded: deliveries wait
	Dialect         string               `json:"dialect,omitempty"`    // in which it was created
	ExpiresAt       *time.Time           `json:"expires_at"`           // null: never
	CreatedAt       time.Time            `json:"created_at"`
	UpdatedAt       time.Time            `json:"updated_at"`

	echoes []aliasField // the same values under the client's names
}

// viewNames are the members of a subscriptionView.
var viewNames = fieldNames(&subscriptionView{})

// MarshalJSON implements json.Marshaler: the view's own members, then the aliases.
func (v subscriptionView) MarshalJSON() ([]byte, error) {
	type own subscriptionView
	text, err := encodeJSON(own(v))
	if err != nil {
		return nil, err
	}
	for _, e := range v.echoes {
		value, err := encodeJSON(e.value)
		if err != nil {
			return nil, err
		}
		text = append(strconv.AppendQuote(append(text[:len(text)-1], ','), e.name), ':')
		text = append(append(text, value...), '}')
	}
	return text, nil
}

func expiry(sub *engine.Subscription) *time.Time {
	if sub.ExpiresAt.IsZero() {
		return nil
	}
	return &sub.ExpiresAt
}

// subscriptionPath returns the path of a subscription.
func subscriptionPath(id string) string { return apiPath + "/subscriptions/" + id }

type filterErrors struct {
	Count int64  `json:"count"`
	Last  string `json:"last"`
}

// redacted replaces a header value that is a credential. Sent back, it means the stored value.
const redacted = engine.RedactedValue

// viewSubscription returns a subscription as a caller sees it; the target URL is complete only for callers
// that may change it.
func (s *Server) viewSubscription(who caller, sub *engine.Subscription) subscriptionView {
	if !who.Has(engine.ScopeSubscribe) {
		masked := *sub
		masked.TargetURL, sub = engine.MaskURL(sub.TargetURL), &masked
	}
	v := subscriptionView{
		ID: sub.ID.Format(engine.SubscriptionPrefix), Events: sub.Events, TargetURL: sub.TargetURL, Account: sub.Account,
		Active: sub.Active, InactiveReason: sub.Reason, Filter: sub.Filter, Transform: sub.Transform,
		Headers: sub.ShownHeaders(), VisibleHeaders: sub.VisibleHeaders, PayloadFormat: string(sub.PayloadFormat), Numbered: sub.Numbered, Policy: viewPolicy(&sub.Policy), Health: viewHealth(s.engine.Health(sub.ID)),
		Batch: viewBatch(sub.Batch), Debounce: viewDebounce(sub.Debounce),
		Description: sub.Description, Metadata: viewMetadata(sub), CreatedAt: sub.CreatedAt, UpdatedAt: sub.UpdatedAt,
	}
	if v.VisibleHeaders == nil {
		v.VisibleHeaders = []string{}
	}
	kind, public := signature.Describe(sub.Secret)
	v.SecretType, v.PublicKey = string(kind), public
	for _, scheme := range sub.Signatures {
		v.Signatures = append(v.Signatures, string(scheme))
	}
	if v.Signatures == nil {
		v.Signatures = []string{string(signature.Standard)}
	}
	if len(sub.Events) == 1 {
		v.Event = &sub.Events[0]
	}
	v.Href, v.Dialect, v.ExpiresAt, v.echoes = s.cfg.PathPrefix+subscriptionPath(v.ID), sub.Dialect, expiry(sub), aliasFields(sub)
	if n, last := s.engine.FilterErrors(sub.ID); n > 0 {
		v.FilterErrors = &filterErrors{n, last}
	}
	v.Verification = viewVerification(sub.Verification)
	v.FilterScript, v.TransformScript = s.viewRef(sub.Account, sub.FilterScript), s.viewRef(sub.Account, sub.TransformScript)
	v.Unreadable = sub.Unreadable
	v.Quarantine = s.engine.Quarantined(sub.ID)
	return v
}

// subscriptionPage is the list of subscriptions and, on its first page, the event types that can be
// subscribed to, as the REST Hooks pattern has it.
type subscriptionPage struct {
	page
	EventTypes []eventTypeEntry `json:"event_types,omitzero"`
}

type eventTypeEntry struct {
	Name        string `json:"name"`
	Description string `json:"description"`
}

func (s *Server) listSubscriptions(c *fiber.Ctx, who caller) error {
	account, err := who.listAccount(c)
	if err != nil {
		return err
	}
	find, client, skip, err := s.subscriptionQuery(c, account)
	if err != nil {
		return err
	}
	wanted := find.Limit
	if len(client) > 0 || skip > 0 {
		find.Limit = math.MaxInt
	}
	found := slices.DeleteFunc(s.engine.Subscriptions(find), func(sub *engine.Subscription) bool { return !matchesClient(sub, client) })
	found = found[min(skip, len(found)):]
	found = found[:min(wanted, len(found))]
	cursor := func(sub *engine.Subscription) string { return sub.ID.Format(engine.SubscriptionPrefix) }
	answer := subscriptionPage{page: pageOf(found, wanted-1, cursor, func(sub *engine.Subscription) subscriptionView { return s.viewSubscription(who, sub) })}
	if find.After != 0 || skip > 0 {
		return answerList(c, answer.Data, answer, answer.NextCursor)
	}
	answer.EventTypes = []eventTypeEntry{}
	for _, t := range s.engine.EventTypes() {
		answer.EventTypes = append(answer.EventTypes, eventTypeEntry{t.Name, t.Description})
	}
	return answerList(c, answer.Data, answer, answer.NextCursor)
}

func (s *Server) createSubscription(c *fiber.Ctx, who caller) error {
	again, err := boolParam(c, "allow_duplicates")
	if err != nil {
		return err
	}
	in, present, words, err := readSubscription(c, nil)
	if err == nil {
		err = notEmpty(present, "account")
	}
	if err != nil {
		return err
	}
	account, err := who.ownerAccount(c, in.Account)
	if err != nil {
		return err
	}
	sub := &engine.Subscription{Account: account}
	words.saveAliases(sub)
	if err := s.apply(in, sub, wholeSubscription); err != nil {
		return words.withClientFieldNames(err)
	}
	sub, created, err := s.storeSubscription(c, sub, in, again)
	if err != nil {
		return words.withClientFieldNames(err)
	}
	view := s.viewSubscription(who, sub)
	c.Location(subscriptionPath(view.ID))
	setETag(c, sub.Version)
	if !created {
		view.SecretHref = view.Href + "/secret"
		view.echoes = aliasFields(&engine.Subscription{Names: words.names, TargetURL: sub.TargetURL, Events: sub.Events, Active: sub.Active, ExpiresAt: sub.ExpiresAt})
		return c.JSON(view)
	}
	view.Secret, view.Warnings = sub.Secret, scripts.Warnings(sub.Transform)
	return c.Status(fiber.StatusCreated).JSON(view)
}

// storeSubscription creates a subscription or returns an existing duplicate, unless the request asks for a
// second one.
func (s *Server) storeSubscription(c *fiber.Ctx, sub *engine.Subscription, in *subscriptionInput, again bool) (_ *engine.Subscription, created bool, err error) {
	if again {
		sub, err = s.engine.CreateSubscription(c.UserContext(), sub)
		return sub, true, err
	}
	return s.engine.EnsureSubscription(c.UserContext(), sub, catalog.EnsureOptions{NewSecret: in.Secret == ""})
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
	stored, _ := s.engine.Subscription(who.accountScope(), id) // a missing one is reported below
	in, present, words, err := readSubscription(c, stored)
	if err != nil {
		return err
	}
	set := changeSet{present: present}
	if !patch {
		set.replace, set.keep = true, keptByPUT
	}
	version, err := ifMatch(c)
	if err != nil {
		return err
	}
	sub, err := s.engine.UpdateSubscription(c.UserContext(), who.accountScope(), id, version, func(sub *engine.Subscription) error {
		words.saveAliases(sub)
		return s.apply(in, sub, set)
	})
	if err != nil {
		return words.withClientFieldNames(err)
	}
	setETag(c, sub.Version)
	view := s.viewSubscription(who, sub)
	view.Warnings = scripts.Warnings(sub.Transform)
	return c.JSON(view)
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
