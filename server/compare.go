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
	"switchhook/scripts/scripteval"
	"switchhook/server/api"
)

func viewCounts(c scripteval.ChangeCounts) api.ChangeCounts {
	return api.ChangeCounts{Events: c.Events, Same: c.Same, Differs: c.Differs, NewlyMatched: c.Matches, NoLongerMatched: c.Unmatches, Dropped: c.Drops, Errors: c.Errors}
}

const maxOutcomeBody = 16 << 10

func viewOutcome(o *scripteval.Outcome) api.ScriptOutcome {
	body := o.Result.Body
	v := api.ScriptOutcome{Sent: o.Sent(), Dropped: o.Result.DropMessage(), Body: strings.ToValidUTF8(string(body[:min(len(body), maxOutcomeBody)]), "")}
	v.Error, _ = o.Error()
	if r := o.Result.Request; r != nil {
		v.Request = &api.ScriptOutcomeRequest{Method: r.Method, Path: r.Path, Query: r.Query, Headers: engine.RedactCredentials(r.Headers)}
	}
	return v
}

func viewTotals(kind string, t evaluate.ComparisonTotals) api.ComparisonTotals {
	return api.ComparisonTotals{
		Kind: kind, ChangeCounts: viewCounts(t.ChangeCounts),
		LiveVersion: t.LiveVersion, P50MS: float64(t.P50.Nanoseconds()) / 1e6, P99MS: float64(t.P99.Nanoseconds()) / 1e6,
	}
}

func (s *Server) compareScript(c *fiber.Ctx, who caller) error {
	var in api.CompareScriptRequest
	if _, err := readObject(c, &in); err != nil {
		return err
	}
	sc, err := s.script(c, who)
	if err != nil {
		return err
	}
	if (in.Version == 0) == (in.Source == "") {
		return invalidField("version", "or source must be given: the candidate that is compared with the live version")
	}
	b := evaluate.Comparison{
		Account: sc.Account, Script: sc.ID.Format(engine.ScriptPrefix), Caller: callerOf(who, sc.ID, in.SubscriptionID),
		Last: in.Last, MaskURL: !who.Has(engine.ScopeSubscribe),
		Candidate: evaluate.ScriptSource{Source: in.Source, Ref: engine.ScriptRef{Script: sc.ID, Version: in.Version}},
	}
	if in.Since != nil {
		b.Since = *in.Since
	}
	if in.Until != nil {
		b.Until = *in.Until
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
		return line(api.ComparisonChange{
			Kind: api.ComparisonKindChange, EventID: c.Event.PublicID(), EventType: c.Event.Type,
			Change: string(c.Change), Live: viewOutcome(c.Live), Candidate: viewOutcome(c.Candidate),
		})
	}, func(t evaluate.ComparisonTotals) error {
		if err := line(viewTotals(api.ComparisonKindProgress, t)); err != nil {
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
		err = line(api.ComparisonProblem{Kind: api.ComparisonKindProblem, Problem: s.describe(nil, err)})
	} else {
		err = line(viewTotals(api.ComparisonKindTotals, totals))
	}
	if err == nil {
		_ = flush() // the client may be gone
	}
}
