package api

import (
	"context"
	"encoding/json"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"switchhook/scripts"
)

// Script is a named filter or transform. Its versions hold the source; one of them is live.
type Script struct {
	Versioned
	ID          string          `json:"id"`
	Account     string          `json:"account"`
	Name        string          `json:"name"` // unique in its account
	Kind        string          `json:"kind"` // "filter" or "transform"
	Description string          `json:"description"`
	LiveVersion *int            `json:"live_version"`    // null: none is live yet
	Cases       json.RawMessage `json:"cases,omitempty"` // the test cases of its newest version; left out in lists
	UsedBy      int             `json:"used_by"`         // the number of subscriptions that use it
	Stats       ScriptStats     `json:"stats"`
	CreatedAt   time.Time       `json:"created_at"`
	UpdatedAt   time.Time       `json:"updated_at"`

	// Warnings lists what a transform uses that throws at run time, in the answer to CreateScript.
	Warnings []scripts.Diagnostic `json:"warnings,omitempty"`
	// Tests are the results of the version's test cases, in the answer to ActivateScriptVersion. A
	// rollback lacks them if the cases could not run.
	Tests *scripts.TestReport `json:"tests,omitempty"`
}

// Complete implements Completer.
func (s *Script) Complete() bool { return s.ID != "" }

// ScriptStats counts the runs of all versions of a script since the router started. A filter runs
// once for an event, however many subscriptions share it.
type ScriptStats struct {
	Runs      int64             `json:"runs"`
	Errors    int64             `json:"errors"` // runs that failed, including timeouts
	Timeouts  int64             `json:"timeouts"`
	Dropped   int64             `json:"dropped"` // a transform's runs that dropped the event; a filter's that did not match
	CPUMS     float64           `json:"cpu_ms"`
	Histogram []ScriptRunBucket `json:"histogram"` // runs by CPU time
}

// ScriptRunBucket counts the runs that took at most LEMS, and more than the bucket before it allows.
type ScriptRunBucket struct {
	LEMS *float64 `json:"le_ms"` // null: no limit
	Runs int64    `json:"runs"`
}

// ScriptVersion is a version of a script. Its source never changes, and its test cases do not once
// there is a newer version.
type ScriptVersion struct {
	Version   int             `json:"version"` // 1 is the first
	Hash      string          `json:"hash"`    // SHA-256 of the source, in hexadecimal
	Source    string          `json:"source"`
	Author    string          `json:"author"` // the name of the key that created it
	Note      string          `json:"note"`
	Live      bool            `json:"live"`
	LiveAt    *time.Time      `json:"live_at"` // the last activation; null: never
	Cases     json.RawMessage `json:"cases"`   // its test cases, a list
	CreatedAt time.Time       `json:"created_at"`

	// Warnings lists what a transform uses that throws at run time, in the answer to
	// CreateScriptVersion.
	Warnings []scripts.Diagnostic `json:"warnings,omitempty"`
	// Tests are the results of the test cases, in the answer to CreateScriptVersion.
	Tests *scripts.TestReport `json:"tests,omitempty"`
}

// Complete implements Completer.
func (v *ScriptVersion) Complete() bool { return v.Version > 0 }

// ScriptDiff is the difference between two versions of a script.
type ScriptDiff struct {
	From int    `json:"from"`
	To   int    `json:"to"`
	Diff string `json:"diff"` // lines: "- " only in from, "+ " only in to, "  " in both; "" if they are equal
}

// ChangeCounts counts events by the effect that a candidate version has, compared with the live one.
type ChangeCounts struct {
	Events          int64 `json:"events"` // all; the others add up to it
	Same            int64 `json:"same"`
	Differs         int64 `json:"differs"`           // another request, or another reason to drop the event
	NewlyMatched    int64 `json:"newly_matched"`     // sent by the candidate only
	NoLongerMatched int64 `json:"no_longer_matched"` // not matched by the candidate only
	Dropped         int64 `json:"dropped"`           // dropped by the candidate only
	Errors          int64 `json:"errors"`            // failed in the candidate
}

// ScriptShadow is a shadow run: a candidate version runs beside the live one on live traffic, and its
// results are compared and not sent.
type ScriptShadow struct {
	Version int       `json:"version"`
	Until   time.Time `json:"until"`
	Skipped int64     `json:"skipped"` // runs left out under load
	ChangeCounts
}

// Complete implements Completer.
func (s *ScriptShadow) Complete() bool { return s.Version > 0 }

// ListScriptsParams are the parameters of [Client.ListScripts].
type ListScriptsParams struct {
	Account string `query:"account"` // default: the account of the key; "*": all, for an admin key
	Kind    string `query:"kind"`    // "filter" or "transform"; default: both
}

// CreateScriptRequest is the body of [Client.CreateScript].
type CreateScriptRequest struct {
	Account     string          `json:"account,omitempty" nonzero:"leave it out"` // default: the account of the key
	Name        string          `json:"name"`                                     // at most 100 bytes, without a slash or line break
	Kind        string          `json:"kind"`                                     // "filter" or "transform"
	Description string          `json:"description,omitempty"`
	Cases       json.RawMessage `json:"cases,omitempty"`  // test cases, a list of at most 200
	Source      string          `json:"source,omitempty"` // of the first version, which goes live if its test cases pass
	Note        string          `json:"note,omitempty"`   // of the first version; at most 1000 bytes
}

// UpdateScriptRequest is the body of [Client.UpdateScript] and of [Client.ReplaceScript]; for the
// latter a member that is left out is reset, and Name is required.
type UpdateScriptRequest struct {
	Name        Optional[string]          `json:"name,omitzero"`
	Description Optional[string]          `json:"description,omitzero"` // default: ""
	Cases       Optional[json.RawMessage] `json:"cases,omitzero"`       // those of the newest version; default: none
}

// CreateScriptVersionRequest is the body of [Client.CreateScriptVersion].
type CreateScriptVersionRequest struct {
	Source string          `json:"source"`
	Note   string          `json:"note,omitempty"`  // what is new, for people; at most 1000 bytes
	Cases  json.RawMessage `json:"cases,omitempty"` // default: those of the version before
}

// ActivateScriptVersionRequest is the body of [Client.ActivateScriptVersion].
type ActivateScriptVersionRequest struct {
	Force bool `json:"force,omitempty"` // also if its test cases fail
}

// DiffScriptVersionsParams are the parameters of [Client.DiffScriptVersions].
type DiffScriptVersionsParams struct {
	Against string `query:"against"` // a version's number, "live" (default) or "latest"
}

// TestScriptRequest is the body of [Client.TestScript].
type TestScriptRequest struct {
	Version int    `json:"version,omitempty" nonzero:"leave it out"` // default: the live one
	Source  string `json:"source,omitempty"`                         // a source that is not stored, with the test cases of the newest version
}

// StartScriptShadowRequest is the body of [Client.StartScriptShadow].
type StartScriptShadowRequest struct {
	Version  int       `json:"version" nonzero:"name the candidate"` // the candidate; not the live version
	Duration *Duration `json:"duration,omitempty"`                   // 1s to 168h; default: 1h
}

// The versions that a path may name instead of a number.
const (
	LiveVersion   = "live"   // the live one
	LatestVersion = "latest" // the newest
)

// ListScripts lists scripts, oldest first.
func (c *Client) ListScripts(ctx context.Context, params ListScriptsParams, options ...Option) iter.Seq2[Script, error] {
	return List[Script](ctx, c, "/api/v1/scripts", params, options...)
}

// CreateScript makes a script. With a Source its first version is made too and goes live.
func (c *Client) CreateScript(ctx context.Context, in CreateScriptRequest, options ...Option) (*Script, error) {
	return get[Script](ctx, c, http.MethodPost, "/api/v1/scripts", in, append(options, creates)...)
}

// scriptPath returns the path of a script, which an id or a name identifies.
func scriptPath(id string, tail ...string) string {
	path := "/api/v1/scripts/" + url.PathEscape(id)
	for _, part := range tail {
		path += "/" + url.PathEscape(part)
	}
	return path
}

// GetScript returns a script; id is its id or its name.
func (c *Client) GetScript(ctx context.Context, id string, options ...Option) (*Script, error) {
	return get[Script](ctx, c, http.MethodGet, scriptPath(id), nil, options...)
}

// ReplaceScript sets a script's name, description and test cases.
func (c *Client) ReplaceScript(ctx context.Context, id string, in UpdateScriptRequest, options ...Option) (*Script, error) {
	return get[Script](ctx, c, http.MethodPut, scriptPath(id), in, options...)
}

// UpdateScript changes those of a script's name, description and test cases that in names.
func (c *Client) UpdateScript(ctx context.Context, id string, in UpdateScriptRequest, options ...Option) (*Script, error) {
	return get[Script](ctx, c, http.MethodPatch, scriptPath(id), in, options...)
}

// DeleteScript deletes a script that no subscription uses.
func (c *Client) DeleteScript(ctx context.Context, id string, options ...Option) error {
	return c.Do(ctx, http.MethodDelete, scriptPath(id), nil, nil, options...)
}

// ListScriptSubscriptions lists the subscriptions that use a script, oldest first.
func (c *Client) ListScriptSubscriptions(ctx context.Context, id string, options ...Option) iter.Seq2[Subscription, error] {
	return List[Subscription](ctx, c, scriptPath(id, "subscriptions"), nil, options...)
}

// ListScriptVersions lists the versions of a script, newest first.
func (c *Client) ListScriptVersions(ctx context.Context, id string, options ...Option) iter.Seq2[ScriptVersion, error] {
	return List[ScriptVersion](ctx, c, scriptPath(id, "versions"), nil, options...)
}

// CreateScriptVersion stores a new version of a script, which is not live yet. The source of the
// newest version gives that version again, with the new test cases.
func (c *Client) CreateScriptVersion(ctx context.Context, id string, in CreateScriptVersionRequest, options ...Option) (*ScriptVersion, error) {
	return get[ScriptVersion](ctx, c, http.MethodPost, scriptPath(id, "versions"), in, append(options, creates)...)
}

// GetScriptVersion returns a version of a script: a number, [LiveVersion] or [LatestVersion].
func (c *Client) GetScriptVersion(ctx context.Context, id, version string, options ...Option) (*ScriptVersion, error) {
	return get[ScriptVersion](ctx, c, http.MethodGet, scriptPath(id, "versions", version), nil, options...)
}

// DiffScriptVersions compares a version of a script with another one, by default the live one.
func (c *Client) DiffScriptVersions(ctx context.Context, id, version string, params DiffScriptVersionsParams, options ...Option) (*ScriptDiff, error) {
	return get[ScriptDiff](ctx, c, http.MethodGet, scriptPath(id, "versions", version, "diff"), nil, append(options, Params(params))...)
}

// ActivateScriptVersion makes a version live, a new one or an earlier one. Its test cases must pass,
// unless it was live before or in.Force is set.
func (c *Client) ActivateScriptVersion(ctx context.Context, id string, version int, in ActivateScriptVersionRequest, options ...Option) (*Script, error) {
	return get[Script](ctx, c, http.MethodPost, scriptPath(id, "versions", strconv.Itoa(version), "activate"), in, append(options, creates)...)
}

// TestScript runs the test cases of a version, or those of the newest version against a source.
func (c *Client) TestScript(ctx context.Context, id string, in TestScriptRequest, options ...Option) (*scripts.TestReport, error) {
	return get[scripts.TestReport](ctx, c, http.MethodPost, scriptPath(id, "test"), in, options...)
}

// GetScriptShadow returns the counts of a script's shadow run.
func (c *Client) GetScriptShadow(ctx context.Context, id string, options ...Option) (*ScriptShadow, error) {
	return get[ScriptShadow](ctx, c, http.MethodGet, scriptPath(id, "shadow"), nil, options...)
}

// StartScriptShadow starts a shadow run, in place of the script's other one.
func (c *Client) StartScriptShadow(ctx context.Context, id string, in StartScriptShadowRequest, options ...Option) (*ScriptShadow, error) {
	return get[ScriptShadow](ctx, c, http.MethodPost, scriptPath(id, "shadow"), in, append(options, creates)...)
}

// StopScriptShadow ends a shadow run and discards its counts.
func (c *Client) StopScriptShadow(ctx context.Context, id string, options ...Option) error {
	return c.Do(ctx, http.MethodDelete, scriptPath(id, "shadow"), nil, nil, options...)
}
