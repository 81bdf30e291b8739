package server

import (
	"crypto/sha256"
	"encoding/json"
	"strings"

	"github.com/gofiber/fiber/v2"

	"switchhook/engine"
	"switchhook/engine/evaluate"
	"switchhook/engine/snowflake"
	"switchhook/scripts"
	"switchhook/scripts/jsonindex"
	"switchhook/server/api"
)

func (s *Server) viewRef(account string, ref engine.ScriptRef) *api.ScriptRef {
	if ref.Script == 0 {
		return nil
	}
	v := &api.ScriptRef{ID: ref.Script.Format(engine.ScriptPrefix)}
	if sc, err := s.engine.Script(account, v.ID); err == nil {
		v.Name = sc.Name
	}
	if ref.Version != 0 {
		v.Version = &ref.Version
	}
	return v
}

// findRef resolves a script reference in an account; nil is not a script.
func (s *Server) findRef(field, account string, r *api.ScriptRef) (engine.ScriptRef, error) {
	if r == nil || *r == (api.ScriptRef{}) {
		return engine.ScriptRef{}, nil
	}
	named := r.ID
	if named == "" {
		named = r.Name
	}
	sc, err := s.engine.Script(account, named)
	if err != nil {
		return engine.ScriptRef{}, engine.InvalidField(field, engine.FieldUnknown, "names no script of this account: %.100q", named)
	}
	found := engine.ScriptRef{Script: sc.ID}
	if r.Version != nil {
		found.Version = *r.Version
	}
	return found, nil
}

func (s *Server) preview(c *fiber.Ctx, who caller) error {
	var in api.PreviewRequest
	present, err := readObject(c, &in)
	if err != nil {
		return err
	}
	if in.EventID != "" || in.SubscriptionID != "" { // the response shows stored data
		if err := read.check(who.Key); err != nil {
			return err
		}
	}
	t, err := s.runPreview(c, &in, present["event"], who)
	if err != nil {
		return err
	}
	res, err := s.engine.Preview(c.UserContext(), t)
	if err != nil {
		return err
	}
	view := api.Preview{
		Event: viewEvent(res.Event), Filter: res.Explanation, Error: res.TransformError,
		Diagnostics: append([]scripts.Diagnostic{}, res.Diagnostics...), DurationMS: milliseconds(res.Duration),
	}
	if res.Judged() {
		view.Matched = &res.Matched
	}
	if res.Dropped != "" {
		view.Dropped = &res.Dropped
	}
	if res.Request != nil {
		if t.MaskURL {
			res.Request.URL = engine.MaskURL(res.Request.URL)
		}
		view.Request = viewRequest(res.Request.Method, res.Request.URL, res.Request.Headers)
		view.Request.AttemptBody = viewBody(res.Request.Body)
	}
	if res.Script.Hash != "" {
		view.Script = viewRan(&res.Script)
	}
	return c.JSON(view)
}

func (s *Server) runPreview(c *fiber.Ctx, in *api.PreviewRequest, event jsonindex.Value, who caller) (t evaluate.PreviewRequest, err error) {
	if t.Account, err = who.ownerAccount(c, in.Account); err != nil {
		return t, err
	}
	if in.SubscriptionID != "" {
		id, ok := snowflake.Parse(engine.SubscriptionPrefix, in.SubscriptionID)
		if !ok {
			return t, engine.NotFound("subscription", truncate(in.SubscriptionID))
		}
		sub, err := s.engine.Subscription(who.accountScope(), id)
		if err != nil {
			return t, err
		}
		t.Subscription, t.Account, t.MaskURL = id, sub.Account, !who.Has(engine.ScopeSubscribe)
	}
	if t.Filter, err = s.previewSource("filter", t.Account, in.Filter, in.FilterScript); err != nil {
		return t, err
	}
	if t.Transform, err = s.previewSource("transform", t.Account, in.Transform, in.TransformScript); err != nil {
		return t, err
	}
	t.EventID, t.SampleType = in.EventID, in.Sample
	event256 := sha256.Sum256(in.Event)
	t.Caller = callerOf(who, in.SubscriptionID, in.EventID, in.Sample, event256, in.FilterScript, in.TransformScript)
	given := 0
	for _, is := range []bool{event.Exists(), in.EventID != "", in.Sample != ""} {
		if is {
			given++
		}
	}
	if given != 1 {
		return t, invalidField("event", "must be given, or event_id for one that is stored, or sample for an event type's sample: one of the three")
	}
	if event.Exists() {
		t.Event, err = readEvent(c, event, who)
	}
	return t, inEvent(err)
}

// callerOf names the caller of an evaluation, and what it evaluates: a newer request with the same
// name replaces one that waits. Sources are no part of it: an editor sends each change of them.
func callerOf(who caller, parts ...any) string {
	name, _ := json.Marshal(append(parts, who.ID)) // texts and references can be encoded
	return string(name)
}

// inEvent prefixes a problem's field with "event".
func inEvent(err error) error {
	if p, ok := err.(*api.Error); ok {
		p.Field, p.Detail = strings.TrimSuffix("event."+p.Field, "."), "event: "+p.Detail
	}
	return err
}

func (s *Server) previewSource(field, account string, source *string, ref *api.ScriptRef) (*evaluate.ScriptSource, error) {
	if source != nil && ref != nil {
		return nil, invalidField(field, "and "+field+"_script are both given; give one of them")
	}
	if source != nil {
		return &evaluate.ScriptSource{Source: *source}, nil
	}
	if ref == nil {
		return nil, nil
	}
	found, err := s.findRef(field+"_script", account, ref)
	return &evaluate.ScriptSource{Ref: found}, err
}
