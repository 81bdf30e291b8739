package sandbox_test

import (
	"errors"
	"strings"
	"testing"

	"switchhook/scripts"
	"switchhook/scripts/sandbox"
)

func TestPool_BacktrackingRegexpKeepsProcess(t *testing.T) {
	p := start(t, sandbox.Config{Processes: 1})
	hung := compile(t, p, "export default e => {\n  const s = e.data;\n  return [/(?=a)(a+)+b/i.test(s)]\n}")
	good := compile(t, p, `export default e => [e.data.replace(/\S+@\S+/gi, "[mail]")]`)
	for range 5 {
		_, err := p.Run(t.Context(), hung, event(`"`+strings.Repeat("a", 60)+`"`), post)
		var e *scripts.Error
		if !errors.As(err, &e) || e.Phase != scripts.PhaseTimeout || e.Message != backtracks || e.Line != 3 || e.Column == 0 || e.Snippet == "" {
			t.Fatalf("%+v", err)
		}
		res, err := p.Run(t.Context(), good, event(`"écrire à ada@example.com"`), post)
		if err != nil || string(res.Body) != `["écrire à [mail]"]` {
			t.Fatalf("%s %v", res.Body, err)
		}
	}
	if s := p.Stats(); s.Started != 1 || s.Ended[sandbox.EndedTimeout] != 0 {
		t.Errorf("%+v", s)
	}
}
