package cmd

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"switchhook/scripts"
	"switchhook/server/api"
)

// script finds a script by its name or id in an account; nil if there is none. A name may exist in
// several accounts, or be "..", so requests for the script use its id.
func (c *client) script(ctx context.Context, account, named string) (*api.Script, error) {
	for s, err := range c.ListScripts(ctx, api.ListScriptsParams{Account: account}) {
		if err != nil {
			return nil, err
		}
		if s.Name == named || s.ID == named {
			return &s, nil
		}
	}
	return nil, nil
}

// version returns a version of a script; nil if there is none.
func (c *client) version(ctx context.Context, s *api.Script, named string) (*api.ScriptVersion, error) {
	v, err := c.GetScriptVersion(ctx, s.ID, named)
	if e, ok := errors.AsType[*api.Error](err); ok && e.Code == api.CodeNotFound {
		return nil, nil
	}
	return v, err
}

// newest returns the newest version of a script, which must exist.
func (c *client) newest(ctx context.Context, s *api.Script) (*api.ScriptVersion, error) {
	v, err := c.version(ctx, s, api.LatestVersion)
	if err == nil && v == nil {
		err = fmt.Errorf("%s has no version yet", s.Name)
	}
	return v, err
}

// rollbackDepth limits how many versions below the live one liveBefore reads.
const rollbackDepth = 500

// liveBefore returns, of the highest versions below the live one, the one that was live last; if none
// was, the highest. It is nil if there is none.
func (c *client) liveBefore(ctx context.Context, s *api.Script) (found *api.ScriptVersion, err error) {
	read := 0
	for v, err := range c.ListScriptVersions(ctx, s.ID, api.Query("cursor", strconv.Itoa(*s.LiveVersion))) {
		if err != nil {
			return nil, err
		}
		if found == nil || v.LiveAt != nil && (found.LiveAt == nil || v.LiveAt.After(*found.LiveAt)) {
			found = &v
		}
		if read++; read == rollbackDepth {
			break
		}
	}
	return found, nil
}

// setLive makes a version live and returns the results of its test cases. hint is the command to
// suggest if they fail.
func (c *client) setLive(ctx context.Context, id string, version int, force bool, hint string) (*scripts.TestReport, error) {
	live, err := c.ActivateScriptVersion(ctx, id, version, api.ActivateScriptVersionRequest{Force: force})
	if err != nil {
		return nil, notLive(err, version, hint)
	}
	return live.Tests, nil
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
		return &notLiveError{e, fmt.Sprintf("version %d does not go live, because it no longer compiles: %s\n%s", version, printable(e.Script.Message), hint)}
	}
	if e.Tests != nil {
		return &notLiveError{e, fmt.Sprintf("version %d does not go live, because %d of its %d tests fail; %s", version, e.Tests.Failed, len(e.Tests.Cases), hint)}
	}
	return err
}

// forceLive returns the command that makes a version live although its tests fail.
func forceLive(name string, version int) string {
	command := fmt.Sprintf("switchhook scripts live %s %d --force", shellQuoted(name), version)
	if strings.HasPrefix(name, "-") {
		command = fmt.Sprintf("switchhook scripts live --force -- %s %d", shellQuoted(name), version)
	}
	return fmt.Sprintf("\"%s\" makes it live anyway", command)
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
