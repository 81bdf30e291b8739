package router_test

import (
	"context"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"switchhook/engine"
	"switchhook/engine/settings"
	"switchhook/engine/testkit"
)

// engineGoroutines lists the goroutines of engines, by the function that began them.
func engineGoroutines() (list []string) {
	stacks := make([]byte, 8<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	for _, g := range strings.Split(string(stacks), "\n\n") {
		if at := strings.Index(g, "created by switchhook/engine/"); at >= 0 {
			list = append(list, g[at:])
		}
	}
	return list
}

// A stop under load ends all goroutines without delay.
func TestEngine_CloseLeavesNoGoroutine(t *testing.T) {
	testkit.WaitFor(t, "earlier tests have ended theirs", func() bool { return len(engineGoroutines()) == 0 })
	compiler := newSlowCompiler("/* slow */")
	r := start(t, func(c *settings.Config) {
		c.Transformer, c.VerifyWait = compiler, time.Millisecond
		c.Quota = engine.Quota{StoredBytes: 1 << 30}
	})
	ctx := context.Background()
	slow := r.subscribe(func(s *engine.Subscription) {
		s.Events, s.Transform = []string{"slow"}, "/* slow */ function transform() { return 1 }"
	})
	r.restart()
	compiler.armed.Store(true)
	r.sink.SetAnswer(func(w http.ResponseWriter, req *http.Request, _ string) {
		if req.Header.Get("X-Hook-Secret") != "" {
			<-r.sink.Released // a handshake that is not answered
		}
	})
	for n := range 5 {
		r.subscribe(func(s *engine.Subscription) {
			s.Account, s.TargetURL, s.Verification.Mode = fmt.Sprint("account", n), r.sink.URL+fmt.Sprint("/", n), engine.VerifyHookSecret
		})
	}
	plain := r.subscribe(func(s *engine.Subscription) {
		s.Events, s.Policy.Ordering, s.Debounce = []string{"plain"}, "", engine.Debounce{Key: "data", Within: time.Minute}
	})
	script, err := r.CreateScript(ctx, &engine.Script{Account: engine.DefaultAccount, Name: "s", Kind: engine.KindTransform}, "export default () => 1", "", "")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.AddScriptVersion(ctx, "", "s", "export default () => 2", nil, "", ""); err != nil {
		t.Fatal(err)
	}
	if _, err := r.StartShadow(ctx, "", script.ID.Format(engine.ScriptPrefix), 2, time.Hour); err != nil {
		t.Fatal(err)
	}
	for n := range 50 {
		r.publish("slow", fmt.Sprint(n))
		r.publish("plain", fmt.Sprint(n))
	}
	<-compiler.entered
	if _, err := r.StartReplay(ctx, engine.Replay{Account: engine.DefaultAccount, Subscriptions: []engine.ID{plain.ID}, States: []engine.State{engine.StateDead}, Rate: 1}); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	stopping, cancel := context.WithTimeout(ctx, testkit.Timeout)
	defer cancel()
	if err := r.Close(stopping); err != nil {
		t.Error(err)
	}
	t.Logf("stopped in %s", time.Since(began))
	var left []string
	testkit.WaitFor(t, "no goroutine is left", func() bool { left = engineGoroutines(); return len(left) == 0 })
	// What was being done is done by the next run.
	compiler.armed.Store(false)
	r.sink.Release()
	if err := r.Store.Close(); err != nil {
		t.Fatal(err)
	}
	r.Open()
	testkit.WaitFor(t, "what waited has come", func() bool { return r.Health(slow.ID).State() == engine.HealthHealthy && r.sink.Times("1") >= 50 })
}
