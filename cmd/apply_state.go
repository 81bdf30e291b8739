package cmd

import (
	"context"
	"encoding/json"
	"fmt"

	"switchhook/cmd/manifest"
	"switchhook/scripts/scripttest"
	"switchhook/server/api"
)

// readState reads the router state that a plan needs. otherwise is the account if the set
// names none; with prune, readState finds out which scripts apply has made.
func readState(ctx context.Context, router *client, set *manifest.Set, otherwise string, prune bool) (*manifest.State, error) {
	state := &manifest.State{}
	for t, err := range router.ListEventTypes(ctx) {
		if err != nil {
			return nil, err
		}
		state.EventTypes = append(state.EventTypes, &t)
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
		for sub, err := range router.ListSubscriptions(ctx, api.ListSubscriptionsParams{Account: account}) {
			if err != nil {
				return nil, err
			}
			if sub.Text(manifest.NameKey) != "" {
				sub.Account = account
				state.Subscriptions = append(state.Subscriptions, &sub)
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
		var cases json.RawMessage
		if s.LiveVersion != nil {
			v, err := router.GetScriptVersion(ctx, s.ID, api.LiveVersion)
			if err != nil {
				return nil, err
			}
			live.Source, cases = v.Source, v.Cases
		} else {
			whole, err := router.GetScript(ctx, s.ID)
			if err != nil {
				return nil, err
			}
			cases = whole.Cases
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
