package cmd

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strings"

	"switchhook/cmd/manifest"
	"switchhook/engine"
	"switchhook/scripts/scripttest"
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
	case s.Action == manifest.Delete && s.What == "script":
		return "", a.router.DeleteScript(ctx, s.ID)
	case s.Action == manifest.Delete:
		return "", a.router.DeleteSubscription(ctx, s.ID)
	case s.EventType != nil:
		t := s.EventType
		_, err := a.router.ReplaceEventType(ctx, t.Name, api.EventTypeRequest{
			Description: api.Some(t.Description), Schema: api.Some(t.Schema), Samples: api.Some(t.Samples), Verify: api.Some(t.Verify),
		})
		return "", err
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
	request, hidden := s.Subscription.SubscriptionRequest, s.Subscription.HiddenHeaders()
	headers, metadata := map[string]*string{}, map[string]*string{manifest.NameKey: &s.Subscription.Name, manifest.HeadersKey: nil}
	maps.Copy(headers, request.Headers.Or(nil))
	maps.Copy(metadata, request.Metadata.Or(nil))
	if len(hidden) > 0 {
		kept, err := manifest.Fingerprint(hidden, "")
		if err != nil {
			return "", err
		}
		metadata[manifest.HeadersKey] = &kept
	}
	request.Headers, request.Metadata = api.Some(headers), api.Some(metadata)
	if s.Action == manifest.Create {
		made, err := a.router.CreateSubscription(ctx, request, api.AllowDuplicates())
		if err != nil {
			return "", err
		}
		return " (" + made.ID + "); its signing secret is at /api/v1/subscriptions/" + made.ID + "/secret" + confirmation(made), nil
	}
	now, err := a.router.GetSubscription(ctx, s.ID)
	if err != nil {
		return "", err
	}
	request.Account = ""
	if now.Verification != nil && engine.VerificationMode(now.Verification.Mode).Covers(engine.VerificationMode(request.Verify.Or(""))) {
		request.Verify = api.Optional[string]{} // otherwise the stricter setting of another user may be lost
	}
	// Headers and entries that are not named stay, so those to remove must be named.
	for name := range now.Headers {
		if _, wanted := headers[name]; !wanted {
			headers[name] = nil
		}
	}
	for name, value := range now.Metadata {
		_, isText := value.(string)
		if _, wanted := metadata[name]; !wanted && !strings.HasPrefix(name, manifest.OwnKeys) && isText {
			metadata[name] = nil
		}
	}
	changed, err := a.router.UpdateSubscription(ctx, s.ID, request)
	if err != nil {
		return "", err
	}
	return confirmation(changed), nil
}

// confirmation describes the confirmation that a subscription waits for, if any.
func confirmation(s *api.Subscription) string {
	if !s.Pending() {
		return ""
	}
	return "; it waits for its target to confirm that it wants to be sent events"
}
