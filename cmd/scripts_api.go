package cmd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"switchhook/scripts"
	"switchhook/scripts/scripttest"
	"switchhook/server/api"
)

// scriptBody holds the fields of a script that the commands read.
type scriptBody struct {
	ID          string          `json:"id"`
	Account     string          `json:"account"`
	Name        string          `json:"name"`
	Kind        string          `json:"kind"`
	Description string          `json:"description"`
	LiveVersion int             `json:"live_version"` // 0 if there is none
	Cases       json.RawMessage `json:"cases"`
	UsedBy      int             `json:"used_by"`
	Stats       struct {
		Runs   int64 `json:"runs"`
		Errors int64 `json:"errors"`
	} `json:"stats"`
}

// path returns the API path of the script. It contains the id, since a name may exist in
// several accounts, or be "..".
func (s *scriptBody) path(tail string) string {
	return "/api/v1/scripts/" + url.PathEscape(s.ID) + tail
}

// Complete implements api.Completer.
func (s *scriptBody) Complete() bool { return s.ID != "" }

// versionBody is a version of a script, with the results of its cases if it is new.
type versionBody struct {
	Version   int                  `json:"version"`
	Source    string               `json:"source"`
	Author    string               `json:"author"`
	Note      string               `json:"note"`
	Live      bool                 `json:"live"`
	LiveAt    *time.Time           `json:"live_at"` // the last time; nil: never
	Cases     json.RawMessage      `json:"cases"`
	CreatedAt time.Time            `json:"created_at"`
	Tests     *scripttest.Report   `json:"tests"`
	Warnings  []scripts.Diagnostic `json:"warnings"`
}

// Complete implements api.Completer.
func (v *versionBody) Complete() bool { return v.Version > 0 }

// newScriptBody is the request that creates a script.
type newScriptBody struct {
	Account     string          `json:"account,omitempty"`
	Name        string          `json:"name"`
	Kind        string          `json:"kind"`
	Description string          `json:"description,omitempty"`
	Cases       json.RawMessage `json:"cases,omitempty"`
}

func inAccount(account string) string {
	if account == "" {
		return ""
	}
	return "?account=" + url.QueryEscape(account)
}

// scripts lists an account's scripts; an empty account is that of the key.
func (c *client) scripts(ctx context.Context, account string) ([]scriptBody, error) {
	return all[scriptBody](ctx, c, "/api/v1/scripts"+inAccount(account))
}

// script finds a script by its name or id; nil if there is none.
func (c *client) script(ctx context.Context, account, named string) (*scriptBody, error) {
	list, err := c.scripts(ctx, account)
	if err != nil {
		return nil, err
	}
	for i := range list {
		if list[i].Name == named || list[i].ID == named {
			return &list[i], nil
		}
	}
	return nil, nil
}

// version reads a version: a number, or "live".
func (c *client) version(ctx context.Context, s *scriptBody, named string) (v versionBody, err error) {
	return v, c.call(ctx, http.MethodGet, s.path("/versions/"+url.PathEscape(named)), nil, &v)
}

// latest returns the newest version below a number (0: of all); nil if there is none.
func (c *client) latest(ctx context.Context, s *scriptBody, below int) (*versionBody, error) {
	path := s.path("/versions?limit=1")
	if below > 0 {
		path += fmt.Sprintf("&cursor=%d", below)
	}
	var page api.Page[versionBody]
	if err := c.call(ctx, http.MethodGet, path, nil, &page); err != nil || len(page.Data) == 0 {
		return nil, err
	}
	return &page.Data[0], nil
}

// newest returns the newest version of all, which must exist.
func (c *client) newest(ctx context.Context, s *scriptBody) (*versionBody, error) {
	v, err := c.latest(ctx, s, 0)
	if err == nil && v == nil {
		err = fmt.Errorf("%s has no version yet", s.Name)
	}
	return v, err
}

// liveBefore returns, of the 500 highest versions below the live one, the one that was live
// last; if none was, the highest. It is nil if there is none.
func (c *client) liveBefore(ctx context.Context, s *scriptBody) (*versionBody, error) {
	var lower api.Page[versionBody]
	if err := c.call(ctx, http.MethodGet, s.path(fmt.Sprintf("/versions?limit=500&cursor=%d", s.LiveVersion)), nil, &lower); err != nil || len(lower.Data) == 0 {
		return nil, err
	}
	found := &lower.Data[0]
	for i := range lower.Data {
		if at := lower.Data[i].LiveAt; at != nil && (found.LiveAt == nil || at.After(*found.LiveAt)) {
			found = &lower.Data[i]
		}
	}
	return found, nil
}

// addVersion stores a version; without cases it gets those of the previous version.
func (c *client) addVersion(ctx context.Context, s *scriptBody, source, note string, cases json.RawMessage) (v versionBody, err error) {
	body := map[string]any{"source": source, "note": note}
	if cases != nil {
		body["cases"] = cases
	}
	return v, c.call(ctx, http.MethodPost, s.path("/versions"), body, &v)
}

// setLive makes a version live; the report has the results of its cases. hint is the
// command to suggest if they fail.
func (c *client) setLive(ctx context.Context, s *scriptBody, version int, force bool, hint string) (*scripttest.Report, error) {
	var answer struct {
		Tests *scripttest.Report `json:"tests"`
	}
	err := c.call(ctx, http.MethodPut, s.path("/live"), map[string]any{"version": version, "force": force}, &answer)
	return answer.Tests, notLive(err, version, hint)
}

// notLiveError reports, in terms of the command line, that a version did not go live
// because its tests fail or it no longer compiles.
type notLiveError struct {
	refusal *api.Error
	text    string
}

// Error implements error.
func (e *notLiveError) Error() string { return e.text }

// Unwrap returns the router's error.
func (e *notLiveError) Unwrap() error { return e.refusal }

func notLive(err error, version int, hint string) error {
	e, ok := errors.AsType[*api.Error](err)
	switch {
	case !ok || e.Status != http.StatusConflict:
		return err
	case e.Script != nil:
		return &notLiveError{e, fmt.Sprintf("version %d does not go live, for it does not compile any more: %s\n%s", version, printable(e.Script.Message), hint)}
	}
	if tests := failedTests(e); tests != nil {
		return &notLiveError{e, fmt.Sprintf("version %d does not go live, for %d of its %d tests fail; %s", version, tests.Failed, len(tests.Cases), hint)}
	}
	return err
}

// forceLive returns the command that makes a version live although its tests fail.
func forceLive(name string, version int) string {
	command := fmt.Sprintf("switchhook scripts live %s %d --force", shellQuoted(name), version)
	if strings.HasPrefix(name, "-") {
		command = fmt.Sprintf("switchhook scripts live --force -- %s %d", shellQuoted(name), version)
	}
	return fmt.Sprintf("\"%s\" makes it live all the same", command)
}

// shellQuoted quotes a word for a shell.
func shellQuoted(word string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-/", r)
	}
	if word != "" && strings.IndexFunc(word, func(r rune) bool { return !plain(r) }) < 0 {
		return word
	}
	return "'" + strings.ReplaceAll(printable(word), "'", `'\''`) + "'"
}
