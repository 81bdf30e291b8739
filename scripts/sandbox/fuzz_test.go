package sandbox_test

import (
	"encoding/json"
	"errors"
	"flag"
	"slices"
	"testing"
	"unicode/utf8"

	"switchhook/scripts"
	"switchhook/scripts/sandbox"
	"switchhook/scripts/scriptstest"
)

// FuzzTransform checks that for any source and event the pool answers with a result that is
// JSON (or text) or with an error that has a phase, and that a second run returns the same
// bytes.
func FuzzTransform(f *testing.F) {
	fuzzing := flag.Lookup("test.fuzz").Value.String() != ""
	for _, h := range hostile {
		if !fuzzing && slices.ContainsFunc(h.reasons, func(r string) bool { return r == timeout || r == backtracks || r == memory }) {
			continue // only TestPool_HostileScriptFailsAlone checks what ends by a limit
		}
		f.Add("export default (event, request) => {"+h.body+"\n}", `{"l":[1,2,3]}`)
	}
	f.Add(benchSource, string(scriptstest.Order(2)))
	f.Add(`export default (e, r) => { r.query.x = e.data; delete e.data.a; return [e, r] }`, `{"a":[{}],"b":1e400}`)
	p := start(f, sandbox.Config{Processes: 2})
	f.Fuzz(func(t *testing.T, source, data string) {
		prog, err := p.Compile(t.Context(), source)
		if err != nil {
			told(t, err)
			return
		}
		ev := event(data)
		first, err1 := p.Run(t.Context(), prog, ev, post)
		again, err2 := p.Run(t.Context(), prog, ev, post)
		if byLimit(err1) || byLimit(err2) {
			return // time and memory depend on the machine
		}
		if (err1 == nil) != (err2 == nil) || string(first.Body) != string(again.Body) {
			t.Fatalf("first %.300q %v, then %.300q %v", first.Body, err1, again.Body, err2)
		}
		if err1 != nil {
			told(t, err1)
			if err1.Error() != err2.Error() {
				t.Fatalf("first %v, then %v", err1, err2)
			}
			return
		}
		if !first.Dropped && first.ContentType == "application/json" && first.Request == nil && !json.Valid(first.Body) {
			t.Fatalf("no JSON: %.300q", first.Body)
		}
		if !utf8.Valid(first.Body) {
			t.Fatalf("no UTF-8: %.300q", first.Body)
		}
	})
}

func told(t *testing.T, err error) {
	var e *scripts.Error
	if !errors.As(err, &e) || e.Phase == "" || e.Message == "" || e.Phase == scripts.PhaseBusy {
		t.Fatalf("%#v", err)
	}
}

func byLimit(err error) bool {
	var e *scripts.Error
	return errors.As(err, &e) && (e.Phase == scripts.PhaseTimeout || e.Phase == scripts.PhaseMemory || e.Phase == scripts.PhaseCrash)
}
