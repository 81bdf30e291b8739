package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"switchhook/scripts"
)

// CompareScriptRequest is the body of [Client.CompareScript]. The candidate is either Version or
// Source.
type CompareScriptRequest struct {
	Version        int        `json:"version,omitempty" nonzero:"leave it out"`
	Source         string     `json:"source,omitempty"`                      // one that is not stored
	SubscriptionID string     `json:"subscription_id,omitempty"`             // whose events, filter and request are used; default: all that use the script
	Last           int        `json:"last,omitempty" nonzero:"leave it out"` // maximum number of events, the newest; default: 10,000
	Since          *time.Time `json:"since,omitempty"`                       // of receiving the events
	Until          *time.Time `json:"until,omitempty"`                       // excluded
}

// The kinds of lines in the answer to [Client.CompareScript].
const (
	ComparisonKindChange   = "change"
	ComparisonKindProgress = "progress"
	ComparisonKindTotals   = "totals"
	ComparisonKindProblem  = "problem"
)

// ComparisonChange is an event for which the candidate has another outcome than the live version.
type ComparisonChange struct {
	Kind      string        `json:"kind"` // ComparisonKindChange
	EventID   string        `json:"event_id"`
	EventType string        `json:"event_type"`
	Change    string        `json:"change"` // differs, newly_matched, no_longer_matched, dropped or error
	Live      ScriptOutcome `json:"live"`
	Candidate ScriptOutcome `json:"candidate"`
}

// ComparisonTotals counts the changes, so far or of all events.
type ComparisonTotals struct {
	Kind string `json:"kind"` // ComparisonKindProgress or ComparisonKindTotals
	ChangeCounts
	LiveVersion int     `json:"live_version"` // 0 if none is live: then everything is compared with nothing sent
	P50MS       float64 `json:"p50_ms"`       // CPU time of the candidate's runs
	P99MS       float64 `json:"p99_ms"`
}

// ComparisonProblem ends an answer that could not be completed.
type ComparisonProblem struct {
	Kind    string `json:"kind"` // ComparisonKindProblem
	Problem *Error `json:"problem"`
}

// ScriptOutcome is what a version of a script does with an event.
type ScriptOutcome struct {
	Sent    bool                  `json:"sent"`              // matched, and not dropped
	Dropped string                `json:"dropped,omitempty"` // the transform's reason
	Body    string                `json:"body,omitempty"`    // the first 16 KiB
	Request *ScriptOutcomeRequest `json:"request,omitempty"` // if the transform changed it
	Error   *scripts.Error        `json:"error,omitempty"`
}

// ScriptOutcomeRequest is the request that a transform made. Credentials are "[hidden]".
type ScriptOutcomeRequest struct {
	Method  string              `json:"method"`
	Path    string              `json:"path"`
	Query   map[string][]string `json:"query"`
	Headers map[string]string   `json:"headers"` // the script's and the subscription's
}

// CompareScript runs a version or a source of a script and its live version over stored events, the
// newest first; nothing is sent. It calls change for each event with another outcome and progress from
// time to time, which may be nil, and returns the totals. id is the script's id or its name.
func (c *Client) CompareScript(
	ctx context.Context, id string, in CompareScriptRequest,
	change func(ComparisonChange), progress func(ComparisonTotals), options ...Option,
) (*ComparisonTotals, error) {
	for line, err := range Stream[json.RawMessage](ctx, c, http.MethodPost, scriptPath(id, "compare"), in, options...) {
		if _, refused := errors.AsType[*Error](err); refused {
			return nil, err
		}
		var other ComparisonChange
		var so ComparisonTotals
		var failed ComparisonProblem
		if err == nil {
			err = errors.Join(json.Unmarshal(line, &other), json.Unmarshal(line, &so), json.Unmarshal(line, &failed))
		}
		switch {
		case err != nil:
			return nil, fmt.Errorf("the comparison was cut short: %w", err)
		case other.Kind == ComparisonKindChange && change != nil:
			change(other)
		case so.Kind == ComparisonKindProgress && progress != nil:
			progress(so)
		case so.Kind == ComparisonKindTotals:
			return &so, nil
		case failed.Kind == ComparisonKindProblem && failed.Problem != nil:
			return nil, failed.Problem
		}
	}
	return nil, errors.New("the comparison was cut short")
}
