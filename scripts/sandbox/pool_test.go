package sandbox_test

import (
	"errors"
	"io"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"switchhook/scripts"
	"switchhook/scripts/sandbox"
)

func TestMain(m *testing.M) {
	sandbox.RunIfChild()
	os.Exit(m.Run())
}

func start(t testing.TB, cfg sandbox.Config) *sandbox.Pool {
	t.Helper()
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	p, err := sandbox.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func event(data string) *scripts.Event {
	at := time.Date(2026, 1, 2, 3, 4, 5, 600_000_000, time.UTC)
	return &scripts.Event{ID: "evt_1", Type: "order.created", Account: "default", Time: at, Received: at, Data: []byte(data)}
}

func compile(t testing.TB, p *sandbox.Pool, source string) *scripts.Program {
	t.Helper()
	prog, err := p.Compile(t.Context(), source)
	if err != nil {
		t.Fatalf("%s: %v", source, err)
	}
	return prog
}

var post = scripts.Request{Method: "POST", Path: "/"}

func TestPool_RunsInChildProcess(t *testing.T) {
	p := start(t, sandbox.Config{})
	t.Logf("in force: %s; missing: %v; %q; base %d MB", p.Protections(), p.Protections().Missing(), p.Protections().Problems, p.Protections().MemoryBase>>20)
	prog := compile(t, p, `export default (e, r) => { console.log("hi"); r.path = "/x"; r.query.a = ["1", "2"]; return {id: e.data.id, t: e.time, now: Date.now()} }`)
	res, err := p.Run(t.Context(), prog, event(`{"id":9007199254740993}`), post)
	if err != nil {
		t.Fatal(err)
	}
	if string(res.Body) != `{"id":9007199254740993,"t":"2026-01-02T03:04:05.6Z","now":1767323045600}` || res.ContentType != "application/json" ||
		res.Request == nil || res.Request.Path != "/x" || len(res.Request.Query["a"]) != 2 || strings.Join(res.Console, "") != "log: hi" || res.CPU <= 0 {
		t.Errorf("got %s %+v", res.Body, res)
	}
	_, err = p.Compile(t.Context(), "export default () => {\n  return 1 +\n}")
	var e *scripts.Error
	if !errors.As(err, &e) || e.Phase != scripts.PhaseCompile || e.Line != 3 {
		t.Errorf("got %#v", err)
	}
	_, err = p.Run(t.Context(), compile(t, p, `export default e => drop("no")`), event(`0`), post)
	if err != nil {
		t.Error(err)
	}
}

func TestPool_StatsCountProcessOutcomes(t *testing.T) {
	p := start(t, sandbox.Config{Processes: 2})
	if _, err := p.Run(t.Context(), compile(t, p, `export default () => ({})`), event(`0`), post); err != nil {
		t.Fatal(err)
	}
	if s := p.Stats(); s.Processes == 0 || s.Started == 0 || s.Queued != 0 || s.Ended[sandbox.EndedTimeout] != 0 || s.Memory == 0 {
		t.Errorf("at first: %+v", s)
	}
	cases := []struct{ source, reason string }{
		{`export default () => Array(2**32-1).indexOf(1)`, sandbox.EndedTimeout}, // in native code, which only the end of the process stops
		{`export default () => 'x'.repeat(2**40)`, sandbox.EndedMemory},
	}
	for _, c := range cases {
		_, err := p.Run(t.Context(), compile(t, p, c.source), event(`0`), post)
		var se *scripts.Error
		if !errors.As(err, &se) || string(se.Phase) != c.reason {
			t.Errorf("%s: %v", c.source, err)
		}
		if got := p.Stats(); got.Ended[c.reason] != 1 {
			t.Errorf("%s: %+v", c.source, got)
		}
	}
}
