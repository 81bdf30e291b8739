package server

import (
	"bufio"
	"context"
	"errors"
	"net"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"switchhook/engine"
	"switchhook/engine/evaluate"
	"switchhook/engine/snowflake"
	"switchhook/scripts"
	"switchhook/scripts/scripteval"
	"switchhook/server/api"
)

type compareInput struct {
	Version        int    `json:"version"` // the candidate: a version, or
	Source         string `json:"source"`  // or a source that is not stored
	SubscriptionID string `json:"subscription_id"`
	Last           int    `json:"last"` // maximum number of events, the newest first
	Since          string `json:"since"`
	Until          string `json:"until"`
}

// The lines of a comparison's response (application/x-ndjson): one per change, a progress line from
// time to time, and at the end the totals or a problem.
type (
	changeLine struct {
		Kind      string      `json:"kind"` // "change"
		EventID   string      `json:"event_id"`
		EventType string      `json:"event_type"`
		Change    string      `json:"change"` // differs, newly_matched, no_longer_matched, dropped, error
		Live      outcomeView `json:"live"`
		Candidate outcomeView `json:"candidate"`
	}
	totalsLine struct {
		Kind string `json:"kind"` // "progress" or "totals"
		api.ChangeCounts
		LiveVersion int     `json:"live_version"` // 0 if there is none
		P50MS       float64 `json:"p50_ms"`       // CPU time of the candidate's runs
		P99MS       float64 `json:"p99_ms"`
	}
	problemLine struct {
		Kind    string     `json:"kind"` // "problem"
		Problem *api.Error `json:"problem"`
	}
)

func viewCounts(c scripteval.ChangeCounts) api.ChangeCounts {
	return api.ChangeCounts{Events: c.Events, Same: c.Same, Differs: c.Differs, NewlyMatched: c.Matches, NoLongerMatched: c.Unmatches, Dropped: c.Drops, Errors: c.Errors}
}

// outcomeView is a version's result for an event.
type outcomeView struct {
	Sent    bool            `json:"sent"`
	Dropped string          `json:"dropped,omitempty"` // the reason
	Body    string          `json:"body,omitempty"`    // truncated at 16 KiB
	Request *outcomeRequest `json:"request,omitempty"` // if the transform changed it
	Error   *scripts.Error  `json:"error,omitempty"`
}

// outcomeRequest is the request that a transform produced.
type outcomeRequest struct {
	Method  string              `json:"method"`
	Path    string              `json:"path"`
	Query   map[string][]string `json:"query"`
	Headers map[string]string   `json:"headers"` // the script's and the subscription's; credentials are redacted
}

const maxOutcomeBody = 16 << 10

func viewOutcome(o *scripteval.Outcome) outcomeView {
	body := o.Result.Body
	v := outcomeView{Sent: o.Sent(), Dropped: o.Result.DropMessage(), Body: strings.ToValidUTF8(string(body[:min(len(body), maxOutcomeBody)]), "")}
	v.Error, _ = o.Error()
	if r := o.Result.Request; r != nil {
		v.Request = &outcomeRequest{r.Method, r.Path, r.Query, engine.RedactCredentials(r.Headers)}
	}
	return v
}

func viewTotals(kind string, t evaluate.ComparisonTotals) totalsLine {
	return totalsLine{
		Kind: kind, ChangeCounts: viewCounts(t.ChangeCounts),
		LiveVersion: t.LiveVersion, P50MS: float64(t.P50.Nanoseconds()) / 1e6, P99MS: float64(t.P99.Nanoseconds()) / 1e6,
	}
}

func (s *Server) compareScript(c *fiber.Ctx, who caller) error {
	var in compareInput
	present, err := readObject(c, &in)
	if err == nil {
		err = notZero(present, "version", "last")
	}
	if err != nil {
		return err
	}
	sc, err := s.script(c, who)
	if err != nil {
		return err
	}
	if (in.Version == 0) == (in.Source == "") {
		return invalidField("version", "or source must be given: what is to be compared with the live version")
	}
	b := evaluate.Comparison{
		Account: sc.Account, Script: sc.ID.Format(engine.ScriptPrefix), Caller: callerOf(who, sc.ID, in.SubscriptionID), Last: in.Last, MaskURL: !who.Has(engine.ScopeSubscribe),
		Candidate: evaluate.ScriptSource{Source: in.Source, Ref: engine.ScriptRef{Script: sc.ID, Version: in.Version}},
	}
	if b.Since, err = timeField("since", in.Since); err != nil {
		return err
	}
	if b.Until, err = timeField("until", in.Until); err != nil {
		return err
	}
	if in.SubscriptionID != "" {
		var ok bool
		if b.Subscription, ok = snowflake.Parse(engine.SubscriptionPrefix, in.SubscriptionID); !ok {
			return engine.NotFound("subscription", truncate(in.SubscriptionID))
		}
	}
	run, err := s.engine.StartComparison(c.UserContext(), b)
	if err != nil {
		return err
	}
	conn := c.Context().Conn()
	c.Set(fiber.HeaderContentType, "application/x-ndjson")
	c.Context().SetBodyStreamWriter(func(w *bufio.Writer) { s.streamComparison(w, conn, run) })
	return nil
}

// errClientLeft means that the client has disconnected.
var errClientLeft = errors.New("the client left")

// streamLineTimeout limits how long a client may take to accept a line; the server's own write
// timeout is for whole responses.
const streamLineTimeout = 30 * time.Second

// timeField parses an optional time.
func timeField(name, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	at, err := parseTime(text)
	if err != nil {
		return at, invalidField(name, err.Error())
	}
	return at, nil
}

// streamComparison writes the response as it is produced. When the client disconnects, a flush fails
// and the comparison ends. It runs in a goroutine of Fiber's, where a panic would end the router.
func (s *Server) streamComparison(w *bufio.Writer, conn net.Conn, run *evaluate.ComparisonRun) {
	defer func() {
		if p := recover(); p != nil {
			s.log.Error("panic in a comparison", "panic", p)
		}
	}()
	allow := func() { // a client that does not read must not delay the shutdown
		most := streamLineTimeout
		if s.streams.Err() != nil {
			most = time.Second
		}
		_ = conn.SetWriteDeadline(time.Now().Add(most)) // a closed connection refuses the write as well
	}
	line := func(v any) error {
		text, err := encodeJSON(v)
		if err != nil {
			return err
		}
		allow()
		if _, err := w.Write(append(text, '\n')); err != nil {
			return errClientLeft
		}
		return nil
	}
	flush := func() error {
		allow()
		if w.Flush() != nil {
			return errClientLeft
		}
		return nil
	}
	defer context.AfterFunc(s.streams, allow)()
	totals, err := run.Run(s.streams, func(c evaluate.ComparedEvent) error {
		return line(changeLine{"change", c.Event.PublicID(), c.Event.Type, string(c.Change), viewOutcome(c.Live), viewOutcome(c.Candidate)})
	}, func(t evaluate.ComparisonTotals) error {
		if err := line(viewTotals("progress", t)); err != nil {
			return err
		}
		return flush()
	})
	switch {
	case errors.Is(err, errClientLeft):
		return
	case err != nil && s.streams.Err() != nil:
		err = &engine.Error{Code: engine.CodeUnavailable, Message: "the router is stopping"}
	}
	if err != nil {
		err = line(problemLine{"problem", s.describe(nil, err)})
	} else {
		err = line(viewTotals("totals", totals))
	}
	if err == nil {
		_ = flush() // the client may be gone
	}
}
