package server

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
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
}

// UnmarshalJSON implements json.Unmarshaler.
func (r *scriptRef) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		return json.Unmarshal(b, &r.ID)
	}
	type plain scriptRef
	return json.Unmarshal(b, (*plain)(r))
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
	t, err := s.trial(&in, present["event"], who)
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

func (s *Server) trial(in *trialInput, event jsondoc.Value, who caller) (t engine.Trial, err error) {
	if t.Account, err = who.owns(in.Account); err != nil {
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
		t.Event, err = readEvent(event, who)
		if p, ok := err.(*Problem); ok {
			p.Field, p.Detail = "event."+p.Field, "event: "+p.Detail
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
	Version      int        `json:"version"` // the candidate: a version, or
	Source       string     `json:"source"`  // a source that is not stored yet
	Subscription string     `json:"subscription"`
	Last         int        `json:"last"` // how many events at most, the newest
	Since        *time.Time `json:"since"`
	Until        *time.Time `json:"until"`
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
		Kind            string  `json:"kind"` // "progress" or "totals"
		Events          int64   `json:"events"`
		Same            int64   `json:"same"`
		Differs         int64   `json:"differs"`
		NewlyMatched    int64   `json:"newly_matched"`
		NoLongerMatched int64   `json:"no_longer_matched"`
		Dropped         int64   `json:"dropped"`
		Errors          int64   `json:"errors"`
		LiveVersion     int     `json:"live_version"`
		P50MS           float64 `json:"p50_ms"`
		P99MS           float64 `json:"p99_ms"`
	}
	problemLine struct {
		Kind    string   `json:"kind"` // "problem"
		Problem *Problem `json:"problem"`
	}
)

// outcomeView is what a version made of an event.
type outcomeView struct {
	Sent    bool             `json:"sent"`
	Dropped string           `json:"dropped,omitempty"`
	Body    string           `json:"body,omitempty"` // cut at 16 KiB
	Request *scripts.Request `json:"request,omitempty"`
	Error   *scripts.Error   `json:"error,omitempty"`
}

const shownBody = 16 << 10

func viewOutcome(o *engine.ScriptOutcome) outcomeView {
	return outcomeView{Sent: o.Sent, Dropped: o.Dropped, Body: string(o.Body[:min(len(o.Body), shownBody)]), Request: o.Request, Error: o.Error}
}

func viewTotals(kind string, t engine.BacktestTotals) totalsLine {
	return totalsLine{
		Kind: kind, Events: t.Events, Same: t.Same, Differs: t.Differs, NewlyMatched: t.Matches, NoLongerMatched: t.Unmatches, Dropped: t.Drops, Errors: t.Errors,
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
	if in.Since != nil {
		b.Since = *in.Since
	}
	if in.Until != nil {
		b.Until = *in.Until
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
	c.Set(fiber.HeaderContentType, "application/x-ndjson")
	c.Context().SetBodyStreamWriter(func(w *bufio.Writer) { s.streamBacktest(w, run) })
	return nil
}

// streamBacktest writes the answer as it comes. When the client leaves, a flush fails and
// the backtest ends.
func (s *Server) streamBacktest(w *bufio.Writer, run *engine.BacktestRun) {
	ctx := context.Background() // the request's is over when this runs
	line := func(v any) error {
		text, err := encodeJSON(v)
		if err != nil {
			return err
		}
		w.Write(text)
		return w.WriteByte('\n')
	}
	totals, err := run.Run(ctx, func(c engine.BacktestChange) error {
		return line(changeLine{"change", c.Event.PublicID(), c.Event.Type, string(c.Change), viewOutcome(c.Live), viewOutcome(c.Candidate)})
	}, func(t engine.BacktestTotals) error {
		if err := line(viewTotals("progress", t)); err != nil {
			return err
		}
		return w.Flush()
	})
	if err != nil {
		line(problemLine{"problem", s.describe(nil, err)})
	} else {
		line(viewTotals("totals", totals))
	}
	w.Flush()
}

type shadowInput struct {
	Version int `json:"version"`
	Seconds int `json:"seconds"`
}

// shadowView is a shadow run and its counts.
type shadowView struct {
	Version int       `json:"version"`
	Until   time.Time `json:"until"`
	Skipped int64     `json:"skipped"`
	totalsLine
}

func viewShadow(sh engine.Shadow) shadowView {
	return shadowView{sh.Version, sh.Until, sh.Skipped, viewTotals("totals", engine.BacktestTotals{ChangeCounts: sh.ChangeCounts})}
}

func (s *Server) putShadow(c *fiber.Ctx, who caller) error {
	var in shadowInput
	if _, err := readObject(c, &in); err != nil {
		return err
	}
	sh, err := s.engine.StartShadow(c.UserContext(), who.sees(), scriptParam(c), in.Version, time.Duration(in.Seconds)*time.Second)
	if err != nil {
		return err
	}
	return c.JSON(viewShadow(sh))
}

func (s *Server) getShadow(c *fiber.Ctx, who caller) error {
	sh, err := s.engine.Shadow(who.sees(), scriptParam(c))
	if err != nil {
		return err
	}
	return c.JSON(viewShadow(sh))
}

func (s *Server) deleteShadow(c *fiber.Ctx, who caller) error {
	if err := s.engine.StopShadow(who.sees(), scriptParam(c)); err != nil {
		return err
	}
	return c.SendStatus(fiber.StatusNoContent)
}
