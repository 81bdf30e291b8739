package router_test

import (
	"context"
	"strings"
	"testing"

	"switchhook/engine"
	"switchhook/engine/catalog"
)

const (
	casesOfOne = `[{"name":"one","event":{"type":"a","data":1},"expect":{"body":"1"}}]`
	casesOfTwo = `[{"name":"two","event":{"type":"a","data":1},"expect":{"body":"2"}}]`
)

func (r *rig) tryLive(s *engine.Script, number int, force bool) (*engine.Script, error) {
	live, _, err := r.SetScriptLive(context.Background(), "", s.ID.Format(engine.ScriptPrefix), number, catalog.AnyVersion, force)
	return live, err
}

// TestScriptCases_BelongToTheVersion goes back to a version that fails the cases of the one
// that is live, and whose own it passes.
func TestScriptCases_BelongToTheVersion(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	ctx := context.Background()
	s, err := r.CreateScript(ctx, &engine.Script{Account: engine.DefaultAccount, Name: "t", Kind: engine.KindTransform, Cases: []byte(casesOfOne)}, "export default () => '1'", "", "")
	if err != nil {
		t.Fatal(err)
	}
	id := s.ID.Format(engine.ScriptPrefix)
	if _, _, err := r.AddScriptVersion(ctx, "", id, "export default () => '2'", []byte(casesOfTwo), "", ""); err != nil {
		t.Fatal(err)
	}
	if v, created, err := r.AddScriptVersion(ctx, "", id, "export default () => '3'", nil, "", ""); err != nil || !created || string(v.Cases) != casesOfTwo {
		t.Fatalf("version 3 has the cases %s, %v", v.Cases, err)
	}
	for range 2 { // before and after a restart
		for number, failed := range map[int]int{1: 0, 2: 0, 3: 1} {
			report, err := r.TestScript(ctx, "", id, number, "")
			if err != nil || report.Failed != failed || len(report.Cases) != 1 {
				t.Errorf("version %d: report is %+v, %v", number, report, err)
			}
		}
		if report, err := r.TestScript(ctx, "", id, 0, "export default () => '2'"); err != nil || !report.OK() {
			t.Errorf("the newest cases against a source: %+v, %v", report, err)
		}
		r.goLive(s, 2)
		if _, err := r.tryLive(s, 3, false); engine.ErrorCode(err) != engine.CodeConflict {
			t.Errorf("version 3 went live, though its case fails: %v", err)
		}
		r.goLive(s, 1)
		r.restart()
	}
}

// TestScriptLive_RollbackWithoutForce makes a version live by force, whose cases fail, and
// another one, and goes back.
func TestScriptLive_RollbackWithoutForce(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	ctx := context.Background()
	if _, _, err := r.PutEventType(ctx, &engine.EventType{Name: "order.created", Schema: []byte(`{"type":"object","properties":{"n":{"type":"integer"},"old":{"type":"integer"}}}`)}, true, catalog.AnyVersion); err != nil {
		t.Fatal(err)
	}
	s, err := r.CreateScript(ctx, &engine.Script{Account: engine.DefaultAccount, Name: "f", Kind: engine.KindFilter}, "data.old > 1", "", "")
	if err != nil {
		t.Fatal(err)
	}
	id := s.ID.Format(engine.ScriptPrefix)
	r.subscribe(func(u *engine.Subscription) { u.Events, u.FilterScript.Script = []string{"order.created"}, s.ID })
	failing := []byte(`[{"name":"no","event":{"type":"order.created","data":{"n":1}},"expect":{"matches":true}}]`)
	if _, _, err := r.AddScriptVersion(ctx, "", id, "data.n > 1", failing, "", ""); err != nil {
		t.Fatal(err)
	}
	if _, err := r.tryLive(s, 2, false); engine.ErrorCode(err) != engine.CodeConflict {
		t.Fatalf("error is %v", err)
	}
	if _, err := r.tryLive(s, 2, true); err != nil {
		t.Fatal(err)
	}
	// The first version does not suit the event type any more.
	if _, _, err := r.PutEventType(ctx, &engine.EventType{Name: "order.created", Schema: []byte(`{"type":"object","properties":{"n":{"type":"integer"}}}`)}, false, catalog.AnyVersion); err != nil {
		t.Fatal(err)
	}
	for _, number := range []int{1, 2, 1} {
		live, err := r.tryLive(s, number, false)
		if err != nil || live.Live != number {
			t.Fatalf("version %d was live, and does not go live again: %v", number, err)
		}
	}
	if _, _, err := r.AddScriptVersion(ctx, "", id, "data.old > 2", nil, "", ""); err != nil {
		t.Fatal(err)
	}
	if _, err := r.tryLive(s, 3, true); engine.ErrorCode(err) != engine.CodeInvalid || !strings.Contains(err.Error(), "event types") {
		t.Errorf("a version that was never live, and does not suit, went live: %v", err)
	}
}

// TestScriptCases_OfTheNewestVersionCanChange changes cases by themselves.
func TestScriptCases_OfTheNewestVersionCanChange(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	ctx := context.Background()
	s := r.script(engine.KindTransform, "t", "export default () => '1'", "export default () => '2'")
	id := s.ID.Format(engine.ScriptPrefix)
	cases := func(number int) string {
		v, err := r.ScriptVersion(ctx, "", id, number)
		if err != nil {
			t.Fatal(err)
		}
		return string(v.Cases)
	}
	if _, err := r.UpdateScript(ctx, "", id, catalog.AnyVersion, func(s *engine.Script) error { s.Cases = []byte(casesOfTwo); return nil }); err != nil {
		t.Fatal(err)
	}
	if cases(1) != "" || cases(2) != casesOfTwo {
		t.Errorf("cases are %q and %q", cases(1), cases(2))
	}
	v, created, err := r.AddScriptVersion(ctx, "", id, "export default () => '2'", []byte(casesOfOne), "", "")
	if err != nil {
		t.Fatal(err)
	}
	whole, err := r.WithCases(ctx, r.mustScript("t"))
	if err != nil || created || v.Number != 2 || cases(2) != casesOfOne || string(whole.Cases) != casesOfOne {
		t.Errorf("the same source with other cases: version %d, created %v, cases %s, %v", v.Number, created, cases(2), err)
	}
	if _, _, err := r.AddScriptVersion(ctx, "", id, "export default () => '3'", []byte(`{}`), "", ""); engine.ErrorCode(err) != engine.CodeInvalid {
		t.Errorf("cases that are no list: %v", err)
	}
}
