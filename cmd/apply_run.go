package cmd

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"switchhook/cmd/manifest"
	"switchhook/scripts/scripttest"
	"switchhook/server"
	"switchhook/server/api"
)

// applier executes a plan.
type applier struct {
	router *client
	set    *manifest.Set
}

// run executes the steps in order and stops at the first failure.
func (a *applier) run(ctx context.Context, p *manifest.Plan) error {
	done, changes := 0, p.Changes()
	for _, s := range p.Steps {
		if s.Action == manifest.Unchanged {
			continue
		}
		result, err := a.step(ctx, s)
		if err != nil {
			showRefusal(err)
			return fmt.Errorf("%s %s: %w\nstopped: %d of %s made; apply again goes on from here", s.What, stepName(s), err, done, countedNoun(changes, "change"))
		}
		done++
		fmt.Printf("%s %s %s%s\n", pastTense[s.Action], s.What, stepName(s), result)
	}
	fmt.Printf("%s made\n", countedNoun(done, "change"))
	return nil
}

var pastTense = map[manifest.Action]string{manifest.Create: "created", manifest.Change: "changed", manifest.Delete: "deleted"}

// step makes one change and describes the result.
func (a *applier) step(ctx context.Context, s *manifest.Step) (result string, err error) {
	switch {
	case s.Action == manifest.Delete:
		return "", a.router.call(ctx, http.MethodDelete, "/api/v1/"+s.What+"s/"+url.PathEscape(s.ID), nil, nil)
	case s.EventType != nil:
		return "", a.router.call(ctx, http.MethodPut, "/api/v1/event-types/"+url.PathEscape(s.EventType.Name), s.EventType, nil)
	case s.Script != nil:
		return a.script(ctx, s)
	}
	return a.subscription(ctx, s)
}

func (a *applier) script(ctx context.Context, s *manifest.Step) (string, error) {
	cases, err := json.Marshal(append([]scripttest.Case{}, s.Script.Cases...))
	if err != nil {
		return "", err
	}
	if s.Action == manifest.Create {
		_, err := a.router.CreateScript(ctx, api.CreateScriptRequest{
			Account: s.Script.Account, Name: s.Script.Name, Kind: s.Script.Kind, Description: s.Script.Description,
			Cases: cases, Source: s.Script.Source, Note: manifest.Note,
		})
		return ", version 1 is live", err
	}
	if s.NewRecord {
		if _, err := a.router.UpdateScript(ctx, s.ID, api.UpdateScriptRequest{Description: api.Some(s.Script.Description)}); err != nil {
			return "", err
		}
	}
	if !s.NewVersion {
		return "", nil
	}
	v, err := a.router.CreateScriptVersion(ctx, s.ID, api.CreateScriptVersionRequest{Source: s.Script.Source, Note: manifest.Note, Cases: cases})
	if err != nil {
		return "", err
	}
	_, err = a.router.setLive(ctx, s.ID, v.Version, false, forceLive(s.Script.Name, v.Version))
	return fmt.Sprintf(", version %d is live", v.Version), err
}

func (a *applier) subscription(ctx context.Context, s *manifest.Step) (string, error) {
	sub := s.Subscription
	metadata := map[string]any{manifest.NameKey: sub.Name, manifest.HeadersKey: nil}
	for name, value := range sub.Metadata {
		metadata[name] = value
	}
	headers := map[string]any{}
	for name, v := range sub.Headers {
		headers[name] = v.Text
	}
	if secret := sub.HiddenHeaders(); len(secret) > 0 {
		kept, err := manifest.Fingerprint(secret, "")
		if err != nil {
			return "", err
		}
		metadata[manifest.HeadersKey] = kept
	}
	body := map[string]any{
		"events": sub.Events, "target_url": sub.TargetURL.Text, "filter": sub.Filter, "transform": sub.Transform,
		"filter_script": refBody(sub.FilterScript), "transform_script": refBody(sub.TransformScript),
		"headers": headers, "payload_format": sub.PayloadFormat, "description": sub.Description, "metadata": metadata,
	}
	terms := server.DeliverySettingsOf(sub.DeliverySettings())
	body["policy"], body["batch"], body["debounce"] = terms.Policy, terms.Batch, terms.Debounce
	body["signatures"], body["numbered"], body["visible_headers"] = terms.Signatures, terms.Numbered, sub.VisibleHeaders
	if sub.Active != nil {
		body["active"] = *sub.Active
	}
	var made subscriptionState
	if s.Action == manifest.Create {
		if sub.Account != "" {
			body["account"] = sub.Account
		}
		body["verify"] = sub.Verify
		err := a.router.call(ctx, http.MethodPost, "/api/v1/subscriptions?allow_duplicates=true", body, &made)
		return " (" + made.ID + "); its signing secret is at /api/v1/subscriptions/" + made.ID + "/secret" + confirmation(&made), err
	}
	path := "/api/v1/subscriptions/" + url.PathEscape(s.ID)
	if err := a.router.call(ctx, http.MethodGet, path, nil, &made); err != nil {
		return "", err
	}
	if !made.Verification.Mode.Covers(sub.Verify) {
		body["verify"] = sub.Verify // otherwise the stricter setting of another user may be lost
	}
	// Headers that are not named stay, so those to remove must be named.
	for name := range made.Headers {
		if _, wanted := sub.Headers[name]; !wanted {
			headers[name] = nil
		}
	}
	for name := range made.Metadata {
		if _, wanted := metadata[name]; !wanted && !strings.HasPrefix(name, manifest.OwnKeys) {
			metadata[name] = nil
		}
	}
	var changed subscriptionState
	err := a.router.call(ctx, http.MethodPatch, path, body, &changed)
	return confirmation(&changed), err
}

// confirmation describes the confirmation that a subscription waits for, if any.
func confirmation(s *subscriptionState) string {
	if !s.waits() {
		return ""
	}
	return "; it waits for its target to confirm that it wants to be sent events"
}

func refBody(r *manifest.Ref) any {
	if r == nil {
		return nil
	}
	body := map[string]any{"name": r.Name}
	if r.Version > 0 {
		body["version"] = r.Version
	}
	return body
}
