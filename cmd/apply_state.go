package cmd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"

	"switchhook/cmd/manifest"
	"switchhook/engine"
	"switchhook/engine/signature"
	"switchhook/scripts/scripttest"
	"switchhook/server"
	"switchhook/server/api"
)

// subscriptionState holds the fields of a subscription that apply reads from the API.
type subscriptionState struct {
	ID              string            `json:"id"`
	Events          []string          `json:"events"`
	TargetURL       string            `json:"target_url"`
	Active          bool              `json:"active"`
	Filter          string            `json:"filter"`
	FilterScript    *routedRef        `json:"filter_script"`
	Transform       string            `json:"transform"`
	TransformScript *routedRef        `json:"transform_script"`
	Headers         map[string]string `json:"headers"`
	VisibleHeaders  []string          `json:"visible_headers"`
	PayloadFormat   string            `json:"payload_format"`
	Description     string            `json:"description"`
	Metadata        metadataTexts     `json:"metadata"`

	Policy       json.RawMessage    `json:"policy"`
	Batch        json.RawMessage    `json:"batch"`
	Debounce     json.RawMessage    `json:"debounce"`
	Signatures   []signature.Scheme `json:"signatures"`
	Numbered     bool               `json:"numbered"`
	Verification struct {
		Mode  engine.VerificationMode `json:"mode"`
		State string                  `json:"state"`
	} `json:"verification"`
}

// waits reports whether the target must confirm before it is sent events.
func (s *subscriptionState) waits() bool { return s.Verification.State == "pending" }

// Complete implements api.Completer.
func (s *subscriptionState) Complete() bool { return s.ID != "" }

// routedRef is the API's reference to a subscription's script.
type routedRef struct {
	ID      string `json:"id,omitempty"`
	Name    string `json:"name"`
	Version *int   `json:"version"`
}

func (r *routedRef) ref() *manifest.Ref {
	if r == nil {
		return nil
	}
	ref := &manifest.Ref{Name: r.Name}
	if r.Version != nil {
		ref.Version = *r.Version
	}
	return ref
}

// readState reads the router state that a plan needs. otherwise is the account if the set
// names none; with prune, readState finds out which scripts apply has made.
func readState(ctx context.Context, router *client, set *manifest.Set, otherwise string, prune bool) (*manifest.State, error) {
	state := &manifest.State{}
	var err error
	if state.EventTypes, err = all[*manifest.EventType](ctx, router, "/api/v1/event-types"); err != nil {
		return nil, err
	}
	wanted := map[string]bool{}
	for _, s := range set.Scripts {
		wanted[s.Account+"/"+s.Name] = true
	}
	for _, account := range set.Accounts(otherwise) {
		for script, err := range router.ListScripts(ctx, api.ListScriptsParams{Account: account}) {
			if err != nil {
				return nil, err
			}
			s, err := liveScript(ctx, router, account, &script, wanted[account+"/"+script.Name], prune)
			if err != nil {
				return nil, err
			}
			state.Scripts = append(state.Scripts, s)
		}
		subs, err := all[subscriptionState](ctx, router, "/api/v1/subscriptions"+inAccount(account))
		if err != nil {
			return nil, err
		}
		for i := range subs {
			if subs[i].Metadata[manifest.NameKey] != "" {
				live, err := subs[i].live(account)
				if err != nil {
					return nil, fmt.Errorf("subscription %s can't be read: %w", subs[i].ID, err)
				}
				state.Subscriptions = append(state.Subscriptions, live)
			}
		}
	}
	return state, nil
}

func liveScript(ctx context.Context, router *client, account string, s *api.Script, wanted, prune bool) (*manifest.LiveScript, error) {
	live := &manifest.LiveScript{ID: s.ID}
	live.Account, live.Name, live.Kind, live.Description = account, s.Name, s.Kind, s.Description
	switch {
	case wanted:
		cases := s.Cases
		if s.LiveVersion != nil {
			v, err := router.GetScriptVersion(ctx, s.ID, api.LiveVersion)
			if err != nil {
				return nil, err
			}
			live.Source, cases = v.Source, v.Cases
		}
		if len(cases) > 0 {
			var err error
			if live.Cases, err = scripttest.ParseCases(cases); err != nil {
				return nil, fmt.Errorf("the cases of script %q can't be read: %w", s.Name, err)
			}
		}
	case prune:
		oldest, err := router.version(ctx, s, "1")
		if err != nil {
			return nil, err
		}
		live.Managed = oldest != nil && oldest.Note == manifest.Note
	}
	return live, nil
}

func (s *subscriptionState) live(account string) (live *manifest.LiveSubscription, err error) {
	live = &manifest.LiveSubscription{ID: s.ID, Fingerprint: s.Metadata[manifest.HeadersKey], PendingVerification: s.waits()}
	live.Subscription = manifest.Subscription{
		Account: account, Name: s.Metadata[manifest.NameKey], Events: s.Events, TargetURL: manifest.Value{Text: s.TargetURL},
		Filter: s.Filter, FilterScript: s.FilterScript.ref(), Transform: s.Transform, TransformScript: s.TransformScript.ref(),
		Headers: map[string]manifest.Value{}, PayloadFormat: s.PayloadFormat, Description: s.Description,
		Metadata: maps.Clone(s.Metadata), Active: &s.Active, VisibleHeaders: s.VisibleHeaders, Signatures: s.Signatures, Numbered: s.Numbered, Verify: s.Verification.Mode,
	}
	var wrong [3]error
	live.Policy, wrong[0] = server.ReadPolicy(s.Policy)
	live.Batch, wrong[1] = server.ReadBatch(s.Batch)
	live.Debounce, wrong[2] = server.ReadDebounce(s.Debounce)
	for name, value := range s.Headers {
		live.Headers[name] = manifest.Value{Text: value}
	}
	maps.DeleteFunc(live.Metadata, func(name, _ string) bool { return strings.HasPrefix(name, manifest.OwnKeys) })
	return live, errors.Join(wrong[:]...)
}

// metadataTexts are the entries of a subscription's metadata that its owner wrote, without
// the client's request that the router stores under "client".
type metadataTexts map[string]string

// UnmarshalJSON implements json.Unmarshaler.
func (m *metadataTexts) UnmarshalJSON(b []byte) error {
	var all map[string]any
	if err := json.Unmarshal(b, &all); err != nil {
		return err
	}
	*m = metadataTexts{}
	for name, value := range all {
		if text, ok := value.(string); ok {
			(*m)[name] = text
		}
	}
	return nil
}
