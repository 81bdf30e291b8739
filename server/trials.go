package server

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"switchhook/engine"
	"switchhook/scripts"
	"switchhook/scripts/filter"
	"switchhook/scripts/jsondoc"
)

// scriptRef reads how a client names a script: its id or name as a string, or an object
// {id or name, version}; no version, or null, is the live one.
type scriptRef struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	Version int    `json:"version"`

	wrong string // what is wrong with it; said where the field's name is known
}

// UnmarshalJSON implements json.Unmarshaler.
func (r *scriptRef) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		return json.Unmarshal(b, &r.ID)
	}
	type plain scriptRef
	var members map[string]json.RawMessage
	if err := json.Unmarshal(b, &members); err != nil {
		return err
	}
	for name := range members {
		if name != "id" && name != "name" && name != "version" {
			r.wrong = fmt.Sprintf("has id or name, and version; %.60q is not known", name)
		}
	}
	if err := json.Unmarshal(b, (*plain)(r)); err != nil {
		return err
	}
	if r.wrong == "" && members != nil && r.ID == "" && r.Name == "" {
		r.wrong = "must name a script by its id or its name"
	}
	if r.ID != "" && r.Name != "" {
		r.Name = "" // as a subscription shows it: the id counts
	}
	return nil
}

// refView is how a subscription names a script.
type refView struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	Version *int   `json:"version"` // null: whichever is live
}

func (s *Server) viewRef(account string, ref engine.ScriptRef) *refView {
	if ref.Script == 0 {
		return nil
	}
	v := &refView{ID: ref.Script.Format(engine.ScriptPrefix)}
	if sc, err := s.engine.Script(account, v.ID); err == nil {
		v.Name = sc.Name
	}
	if ref.Version != 0 {
		v.Version = &ref.Version
	}
	return v
}

// findRef finds the script that a client names, in an account; nil names none.
func (s *Server) findRef(field, account string, r *scriptRef) (engine.ScriptRef, error) {
	if r == nil || *r == (scriptRef{}) {
		return engine.ScriptRef{}, nil
	}
	if r.wrong != "" {
		return engine.ScriptRef{}, fieldProblem(field, r.wrong)
	}
	named := r.ID
	if named == "" {
		named = r.Name
	}
	sc, err := s.engine.Script(account, named)
	if err != nil {
		return engine.ScriptRef{}, fieldProblem(field, fmt.Sprintf("names no script of this account: %.100q", named))
	}
	if r.Version < 0 {
		return engine.ScriptRef{}, fieldProblem(field+".version", "must be the number of a version, or left out for the live one")
	}
	return engine.ScriptRef{Script: sc.ID, Version: r.Version}, nil
}

// trialInput is a dry run as it is asked for.
type trialInput struct {
	Account         string          `json:"account"`
	Subscription    string          `json:"subscription"`
	Filter          *string         `json:"filter"`
	FilterScript    *scriptRef      `json:"filter_script"`
	Transform       *string         `json:"transform"`
	TransformScript *scriptRef      `json:"transform_script"`
	Event           json.RawMessage `json:"event"`    // an event as it is published
	EventID         string          `json:"event_id"` // or one that is stored
	Sample          string          `json:"sample"`   // or the first sample of an event type
}

// trialView is what a dry run came to.
type trialView struct {
	Event      eventView           `json:"event"`
	Matched    bool                `json:"matched"`
	Filter     *filter.Explanation `json:"filter"`  // why; null where there is no filter
	Dropped    *string             `json:"dropped"` // the transform's reason, null where it did not drop
	Request    *requestView        `json:"request"` // what would be sent, null where nothing would
	Script     *ranView            `json:"script,omitempty"`
	Error      *scripts.Error      `json:"error,omitempty"` // the transform's
	DurationMS float64             `json:"duration_ms"`
}

func (s *Server) try(c *fiber.Ctx, who caller) error {
	var in trialInput
	present, err := readObject(c, &in)
	if err != nil {
		return err
	}
	t, err := s.trial(c, &in, present["event"], who)
	if err != nil {
		return err
	}
	res, err := s.engine.Try(c.UserContext(), t)
	if err != nil {
		return err
	}
	view := trialView{Event: viewEvent(res.Event), Matched: res.Matched, Filter: res.Filter, Error: res.Error, DurationMS: milliseconds(res.Duration)}
	if res.Dropped != "" {
		view.Dropped = &res.Dropped
	}
	if res.Request != nil {
		view.Request = &requestView{res.Request.Method, res.Request.URL, viewHeaders(res.Request.Headers), viewBody(res.Request.Body)}
	}
	if res.Script.Hash != "" {
		view.Script = viewRan(&res.Script)
	}
	return c.JSON(view)
}

func (s *Server) trial(c *fiber.Ctx, in *trialInput, event jsondoc.Value, who caller) (t engine.Trial, err error) {
	if t.Account, err = who.owns(c, in.Account); err != nil {
		return t, err
	}
	if in.Subscription != "" {
		id, ok := engine.ParseID(engine.SubscriptionPrefix, in.Subscription)
		if !ok {
			return t, engine.NotFound("subscription", shown(in.Subscription))
		}
		sub, err := s.engine.Subscription(who.sees(), id)
		if err != nil {
			return t, err
		}
		t.Subscription, t.Account = id, sub.Account
	}
	if t.Filter, err = s.trialSource("filter", t.Account, in.Filter, in.FilterScript); err != nil {
		return t, err
	}
	if t.Transform, err = s.trialSource("transform", t.Account, in.Transform, in.TransformScript); err != nil {
		return t, err
	}
	t.EventID, t.SampleType = in.EventID, in.Sample
	given := 0
	for _, is := range []bool{event.Exists(), in.EventID != "", in.Sample != ""} {
		if is {
			given++
		}
	}
	if given != 1 {
		return t, fieldProblem("event", "must be given, or event_id for one that is stored, or sample for an event type's sample: one of the three")
	}
	if event.Exists() {
		t.Event, err = readEvent(c, event, who)
		if p, ok := err.(*Problem); ok {
			p.Field, p.Detail = strings.TrimSuffix("event."+p.Field, "."), "event: "+p.Detail
		}
	}
	return t, err
}

func (s *Server) trialSource(field, account string, source *string, ref *scriptRef) (*engine.ScriptSource, error) {
	if source != nil && ref != nil {
		return nil, fieldProblem(field, "and "+field+"_script are both given; give one of them")
	}
	if source != nil {
		return &engine.ScriptSource{Source: *source}, nil
	}
	if ref == nil {
		return nil, nil
	}
	found, err := s.findRef(field+"_script", account, ref)
	return &engine.ScriptSource{Ref: found}, err
}

type backtestInput struct {
	Version      int    `json:"version"` // the candidate: a version, or
	Source       string `json:"source"`  // a source that is not stored yet
	Subscription string `json:"subscription"`
	Last         int    `json:"last"` // how many events at most, the newest
	Since        string `json:"since"`
	Until        string `json:"until"`
}

// The lines of a backtest's answer (application/x-ndjson): one for each change, a
// progress line now and then, and at the end the totals or a problem.
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
		changeCounts
		LiveVersion int     `json:"live_version"` // 0 where there is none
		P50MS       float64 `json:"p50_ms"`       // CPU time of the candidate's runs
		P99MS       float64 `json:"p99_ms"`
	}
	problemLine struct {
		Kind    string   `json:"kind"` // "problem"
		Problem *Problem `json:"problem"`
	}
)

// changeCounts counts events by what the candidate would change.
type changeCounts struct {
	Events          int64 `json:"events"`
	Same            int64 `json:"same"`
	Differs         int64 `json:"differs"`
	NewlyMatched    int64 `json:"newly_matched"`
	NoLongerMatched int64 `json:"no_longer_matched"`
	Dropped         int64 `json:"dropped"`
	Errors          int64 `json:"errors"`
}

func viewCounts(c engine.ChangeCounts) changeCounts {
	return changeCounts{Events: c.Events, Same: c.Same, Differs: c.Differs, NewlyMatched: c.Matches, NoLongerMatched: c.Unmatches, Dropped: c.Drops, Errors: c.Errors}
}

// outcomeView is what a version made of an event.
type outcomeView struct {
	Sent    bool            `json:"sent"`
	Dropped string          `json:"dropped,omitempty"` // the reason
	Body    string          `json:"body,omitempty"`    // cut at 16 KiB
	Request *outcomeRequest `json:"request,omitempty"` // where the transform changed it
	Error   *scripts.Error  `json:"error,omitempty"`
}

// outcomeRequest is what a transform made of the request.
type outcomeRequest struct {
	Method  string              `json:"method"`
	Path    string              `json:"path"`
	Query   map[string][]string `json:"query"`
	Headers map[string]string   `json:"headers"` // the script's and the subscription's; credentials are hidden
}

const shownBody = 16 << 10

func viewOutcome(o *engine.ScriptOutcome) outcomeView {
	v := outcomeView{Sent: o.Sent, Dropped: o.Dropped, Body: strings.ToValidUTF8(string(o.Body[:min(len(o.Body), shownBody)]), ""), Error: o.Error}
	if o.Request != nil {
		v.Request = &outcomeRequest{o.Request.Method, o.Request.Path, o.Request.Query, hideCredentials(o.Request.Headers)}
	}
	return v
}

func viewTotals(kind string, t engine.BacktestTotals) totalsLine {
	return totalsLine{
		Kind: kind, changeCounts: viewCounts(t.ChangeCounts),
		LiveVersion: t.LiveVersion, P50MS: float64(t.P50.Nanoseconds()) / 1e6, P99MS: float64(t.P99.Nanoseconds()) / 1e6,
	}
}

func (s *Server) backtest(c *fiber.Ctx, who caller) error {
	var in backtestInput
	if _, err := readObject(c, &in); err != nil {
		return err
	}
	sc, err := s.script(c, who)
	if err != nil {
		return err
	}
	if (in.Version == 0) == (in.Source == "") {
		return fieldProblem("version", "or source must be given: what is to be compared with the live version")
	}
	b := engine.Backtest{
		Account: sc.Account, Script: sc.ID.Format(engine.ScriptPrefix), Last: in.Last,
		Candidate: engine.ScriptSource{Source: in.Source, Ref: engine.ScriptRef{Script: sc.ID, Version: in.Version}},
	}
	if b.Since, err = timeField("since", in.Since); err != nil {
		return err
	}
	if b.Until, err = timeField("until", in.Until); err != nil {
		return err
	}
	if in.Subscription != "" {
		var ok bool
		if b.Subscription, ok = engine.ParseID(engine.SubscriptionPrefix, in.Subscription); !ok {
			return engine.NotFound("subscription", shown(in.Subscription))
		}
	}
	run, err := s.engine.StartBacktest(c.UserContext(), b)
	if err != nil {
		return err
	}
	conn := c.Context().Conn()
	c.Set(fiber.HeaderContentType, "application/x-ndjson")
	c.Context().SetBodyStreamWriter(func(w *bufio.Writer) { s.streamBacktest(w, conn, run) })
	return nil
}

// errClientLeft says that nobody reads an answer any more.
var errClientLeft = errors.New("the client left")

// lineTime is how long a client may take to accept a line; the server's own limit is for
// whole answers.
const lineTime = 30 * time.Second

// timeField reads a time that may be left out.
func timeField(name, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return at, fieldProblem(name, `must be a time such as "2026-01-31T09:30:00Z"`)
	}
	return at, nil
}

// streamBacktest writes the answer as it comes. When the client leaves, a flush fails and
// the backtest ends. It runs in a goroutine of Fiber's, where a panic would end the router.
func (s *Server) streamBacktest(w *bufio.Writer, conn net.Conn, run *engine.BacktestRun) {
	defer func() {
		if p := recover(); p != nil {
			s.log.Error("panic in a backtest", "panic", p)
		}
	}()
	allow := func() { // a client that does not read must not hold up the end
		most := lineTime
		if s.streams.Err() != nil {
			most = time.Second
		}
		_ = conn.SetWriteDeadline(time.Now().Add(most)) // a connection that is gone refuses the write too
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
	totals, err := run.Run(s.streams, func(c engine.BacktestChange) error {
		return line(changeLine{"change", c.Event.PublicID(), c.Event.Type, string(c.Change), viewOutcome(c.Live), viewOutcome(c.Candidate)})
	}, func(t engine.BacktestTotals) error {
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
		_ = flush() // there is nobody left to tell
	}
}

type shadowInput struct {
	Version int `json:"version"`
	Seconds int `json:"seconds"`
}

// shadowView is a shadow run and its counts.
type shadowView struct {
	Version int       `json:"version"`
	Until   time.Time `json:"until"`
	Skipped int64     `json:"skipped"` // runs that were left out, because too much was going on
	changeCounts
}

func viewShadow(sh engine.Shadow) shadowView {
	return shadowView{sh.Version, sh.Until, sh.Skipped, viewCounts(sh.ChangeCounts)}
}

func (s *Server) putShadow(c *fiber.Ctx, who caller) error {
	var in shadowInput
	if _, err := readObject(c, &in); err != nil {
		return err
	}
	id, err := s.scriptID(c, who)
	if err != nil {
		return err
	}
	sh, err := s.engine.StartShadow(c.UserContext(), who.sees(), id, in.Version, shadowTime(in.Seconds))
	if err != nil {
		return err
	}
	return c.JSON(viewShadow(sh))
}

// shadowTime is an hour where the client names no time.
func shadowTime(seconds int) time.Duration {
	if seconds == 0 {
		return time.Hour
	}
	return time.Duration(min(seconds, 1<<30)) * time.Second
}

func (s *Server) getShadow(c *fiber.Ctx, who caller) error {
	id, err := s.scriptID(c, who)
	if err != nil {
		return err
	}
	sh, err := s.engine.Shadow(who.sees(), id)
	if err != nil {
		return err
	}
	return c.JSON(viewShadow(sh))
}

func (s *Server) deleteShadow(c *fiber.Ctx, who caller) error {
	id, err := s.scriptID(c, who)
	if err != nil {
		return err
	}
	if err := s.engine.StopShadow(who.sees(), id); err != nil {
		return err
	}
	return c.SendStatus(fiber.StatusNoContent)
}
