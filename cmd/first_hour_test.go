package cmd

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"switchhook/engine/testkit"
	"switchhook/server/api"
	"syscall"
	"testing"
)

// serveDev starts a router as a new user does, and returns its log.
func serveDev(t *testing.T, flags ...string) (*process, *testkit.Buffer) {
	t.Helper()
	log := &testkit.Buffer{}
	p := serveTo(t, log, t.TempDir(), append([]string{"--dev", "--log-level", "info"}, flags...)...)
	return p, log
}

// Every command line that a --help shows must work on a router that runs with --dev.
func TestHelp_ExamplesWork(t *testing.T) {
	t.Parallel()
	p, _ := serveDev(t)
	folder := t.TempDir()
	for _, c := range []struct{ name, text string }{
		{"order.ts", "export default (event: any) => ({ total: event.data.total })"},
		{"order.json", `{"type": "order.created", "data": {"id": 1, "total": 120}}`},
		{"event.json", `{"type": "order.created", "data": {"id": 1, "total": 120}}`},
	} {
		if err := os.WriteFile(filepath.Join(folder, c.name), []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	bin := t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, "switchhook"), fmt.Appendf(nil, "#!/bin/sh\nexec %s \"$@\"\n", program), 0o700); err != nil {
		t.Fatal(err)
	}
	example := regexp.MustCompile(`(?m)^(?:[A-Z][a-z ]+: |  +)((?:\S+ [^|\n]*\| )?switchhook .*)$`)
	seen := map[string]bool{}
	var c commands
	nodes := newParser(&c).Model.Leaves(false)
	helps := [][]string{{"--help"}, {"send", "--key", "x"}}
	for _, n := range nodes {
		helps = append(helps, append(strings.Fields(n.Path()), "--help"))
	}
	for _, args := range helps {
		help := command(args...)
		help.Env = append(help.Env, "COLUMNS=200")
		out, _ := help.CombinedOutput() // the second one is an error that shows an example
		for _, line := range example.FindAllStringSubmatch(strings.ReplaceAll(string(out), "such as: ", "\n  "), -1) {
			if text := strings.TrimSpace(line[1]); !strings.Contains(text, "serve --dev") && !strings.Contains(text, "completion ") /* in TestCompletionScripts */ && !strings.HasPrefix(line[0], "Usage:") {
				seen[text] = true
			}
		}
	}
	if len(seen) < 5 {
		t.Errorf("only %d examples were found: %v", len(seen), seen)
	}
	for line := range seen {
		if line == "switchhook demo" {
			line += " --once"
		}
		if strings.Contains(line, "jq ") {
			if _, err := exec.LookPath("jq"); err != nil {
				t.Logf("not run, for jq is missing: %s", line)
				continue
			}
		}
		sh := exec.Command("sh", "-c", line)
		sh.Dir = folder
		sh.Env = append(os.Environ(), asSwitchhook+"=1", "SWITCHHOOK_SERVER="+p.api.URL, "SWITCHHOOK_KEY="+testKey, "PATH="+bin+":"+os.Getenv("PATH"))
		if out, err := sh.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", line, err, out)
		}
	}
}

func TestServeDev_LogsALineForEachEventAndAttempt(t *testing.T) {
	t.Parallel()
	p, log := serveDev(t)
	sink := testkit.NewReceiver(t, nil)
	subscribeCounter(t, p, sink)
	failing := newFailing(t, strings.Repeat("x", 1000)+"\n")
	post(t, p, "/api/v1/subscriptions", map[string]any{"event": "order.paid", "target_url": failing + "/secret"}, nil)
	post(t, p, "/api/v1/subscriptions", map[string]any{"event": "order.paid", "target_url": sink.URL, "transform": `export default () => drop("not\nwanted")`}, nil)
	post(t, p, "/api/v1/subscriptions", map[string]any{"event": "order.paid", "target_url": sink.URL, "transform": `export default () => { throw new Error("` + strings.Repeat("y", 900) + `") }`}, nil)
	post(t, p, "/api/v1/events", api.PublishRequest{Type: "order.paid", Data: json.RawMessage(`{"id":1}`)}, nil)
	for _, want := range []string{
		` INF event id=evt_\w+ type=order.paid matched=4`,
		` INF delivered id=dlv_\w+ to=127\.0\.0\.1:\d+ status=200 took=`,
		` INF dropped id=dlv_\w+ to=\S+ reason=not…`,
		` WRN attempt failed id=dlv_\w+ to=\S+ status=500 attempt=1 error=.* again_in=\d+s`,
		` WRN attempt failed id=dlv_\w+ to=\S+ attempt=1 error=.*y…`,
	} {
		testkit.WaitFor(t, want, func() bool { return regexp.MustCompile(want).MatchString(log.String()) })
	}
	if err := p.end(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	for line := range strings.Lines(log.String()) {
		if strings.Contains(line, "dlv_") && (len(line) > 320 || strings.Contains(line, "/secret")) {
			t.Errorf("%d bytes: %s", len(line), line)
		}
	}
}

// newFailing starts a target that always answers 500.
func newFailing(t *testing.T, body string) string {
	return "http://" + strings.TrimPrefix(answerRaw(t, "HTTP/1.1 500 no\r\nConnection: close\r\nContent-Length: "+fmt.Sprint(len(body))+"\r\n\r\n"+body, nil), "http://")
}

// A target on the router's own machine is refused once, with all the steps to allow it.
func TestServe_ExplainsLoopbackTargets(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	addr := testkit.FreeAddress(t)
	start := func(flags ...string) *process {
		c := command(append([]string{"serve", "--listen", addr, "--data", data, "--admin-key", testKey, "--log-level", "warn"}, flags...)...)
		c.Stderr = os.Stderr
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		p := &process{Cmd: c, t: t, api: newClient("http://"+addr, testKey), ends: make(chan error, 1)}
		go func() { p.ends <- c.Wait() }()
		t.Cleanup(func() { c.Process.Kill() })
		testkit.WaitFor(t, "the router is ready", p.ready)
		return p
	}
	subscribe := func(p *process, target string) error {
		return p.api.call(context.Background(), http.MethodPost, "/api/v1/subscriptions", map[string]any{"event": "a", "target_url": target}, nil)
	}
	p := start()
	for _, target := range []string{"http://127.0.0.1:9000/hook", "http://127.0.0.1/hook", "http://localhost:9000/hook", "http://[::1]:9000/"} {
		if err := subscribe(p, target); err == nil || !strings.Contains(err.Error(), "--dev") || !strings.Contains(err.Error(), "--allow-targets 127.0.0.0/8,::1") {
			t.Errorf("%s: %v", target, err)
		}
	}
	p.end(syscall.SIGTERM)
	for _, flags := range [][]string{{"--allow-targets", "127.0.0.0/8,::1"}, {"--dev"}} {
		p := start(flags...)
		for _, target := range []string{"http://127.0.0.1:9000/hook", "http://localhost:9000/hook", "http://[::1]:9000/"} {
			if err := subscribe(p, target); err != nil {
				t.Errorf("%v %s: %v", flags, target, err)
			}
		}
		p.end(syscall.SIGTERM)
	}
}

func TestServe_LogsWhereTheAdminKeyIs(t *testing.T) {
	t.Parallel()
	data, log := t.TempDir(), &testkit.Buffer{}
	addr := testkit.FreeAddress(t)
	c := command("serve", "--listen", addr, "--data", data)
	c.Stderr = log
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer c.Process.Kill()
	testkit.WaitFor(t, "the key's file is logged", func() bool {
		return log.Contains(`"msg":"admin key","file":"` + filepath.Join(data, "admin.key") + `"`)
	})
	c.Process.Signal(syscall.SIGTERM)
	c.Wait()
	key, err := os.ReadFile(filepath.Join(data, "admin.key"))
	if err != nil || log.Contains(strings.TrimSpace(string(key))) {
		t.Errorf("the log holds the key, or the file is missing: %v", err)
	}
}

func TestListen_ShowsAnswersRepeatsAndCutsBodies(t *testing.T) {
	t.Parallel()
	p := serve(t, t.TempDir())
	out := &testkit.Buffer{}
	l := command("listen", "--addr", "127.0.0.1:0", "--server", p.api.URL, "--key", testKey, "--subscribe", "a.b", "--status", "503")
	l.Stdout, l.Stderr = out, os.Stderr
	if err := l.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Process.Kill(); l.Wait() })
	testkit.WaitFor(t, "it has subscribed", func() bool { return out.Contains("subscribed to a.b") })
	list := make([]int, 300)
	post(t, p, "/api/v1/events", api.PublishRequest{Type: "a.b", Data: list}, nil)
	testkit.WaitFor(t, "the first attempt is shown", func() bool { return out.Contains("signature ok  answered 503") })
	if !out.Contains("more lines; --full shows them)") && !out.Contains("lines more; --full shows them)") {
		t.Errorf("the body is not cut:\n%s", out)
	}
	testkit.WaitFor(t, "the second is marked", func() bool {
		return out.Contains("answered 503  REPEAT: delivery 2 of this webhook-id")
	})
	if n := strings.Count(out.String(), "\n"); n > 60 {
		t.Errorf("%d lines", n)
	}
}

func TestCutBody(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		body  string
		lines int
		want  string
	}{
		{`{"a":1}`, 20, "{\n  \"a\": 1\n}"},
		{`{"a": 1}`, 1, `{"a":1}`},
		{`[1,2,3]`, 2, "[\n  1,\n… (3 lines more; --full shows them)"},
		{"no json\x1b[31m\n", 20, `"no json\x1b[31m\n"`},
		{`"` + strings.Repeat("x", 600) + `"`, 20, `"` + strings.Repeat("x", 499) + "… (102 characters more)"},
		{"", 20, `""`},
	} {
		if got := cutBody([]byte(c.body), c.lines); got != c.want {
			t.Errorf("%.40q in %d lines: %q", c.body, c.lines, got)
		}
	}
}

// A killed listen leaves its subscription: the next one reuses it, with its secret.
func TestListen_ReusesExistingSubscription(t *testing.T) {
	t.Parallel()
	p := serve(t, t.TempDir())
	addr := testkit.FreeAddress(t)
	for round := range 2 {
		out := &testkit.Buffer{}
		l := command("listen", "--addr", addr, "--server", p.api.URL, "--key", testKey, "--subscribe", "a.b")
		l.Stdout, l.Stderr = out, os.Stderr
		if err := l.Start(); err != nil {
			t.Fatal(err)
		}
		testkit.WaitFor(t, "it has subscribed", func() bool { return out.Contains("subscribed to a.b") })
		post(t, p, "/api/v1/events", api.PublishRequest{Type: "a.b", Data: json.RawMessage("1")}, nil)
		testkit.WaitFor(t, "a delivery is shown", func() bool { return out.Contains("answered 200") })
		if !out.Contains("signature ok") {
			t.Errorf("round %d:\n%s", round, out)
		}
		l.Process.Kill()
		l.Wait()
	}
}

func TestReadJSONValue_InlineFileAndStdin(t *testing.T) {
	t.Parallel()
	dir := writeFiles(t, map[string]string{"e.json": `{"total": 120}`, "s.json": `{"properties": {"total": {"type": "number"}}}`})
	for _, event := range []string{`{"total": 120}`, " \n{\"total\": 120}", "e.json", "@e.json", "-"} {
		out, problems, status := runIn(t, dir, `{"total": 120}`, "preview", "--filter", "data.total > 100", "--type", "a.b", "--event", event, "--json")
		if status != 0 || !strings.Contains(out, `"matched": true`) {
			t.Errorf("--event %q: status %d %s%s", event, status, out, problems)
		}
	}
	for _, schema := range []string{`{"properties": {"total": {"type": "number"}}}`, "s.json", "@s.json", "-"} {
		_, problems, status := runIn(t, dir, `{"properties": {"total": {"type": "number"}}}`, "preview", "--filter", "data.totl > 100", "--type", "a.b", "--event", "{}", "--schema", schema)
		if status != 1 && !strings.Contains(problems, "totl") {
			t.Errorf("--schema %q: status %d %s", schema, status, problems)
		}
	}
	_, problems, status := runIn(t, dir, "", "preview", "--filter", "true", "--event", "none.json")
	if status != 1 || !strings.Contains(problems, "--event: open none.json") || !strings.Contains(problems, "JSON itself begins with") {
		t.Errorf("a file that is missing: status %d %s", status, problems)
	}
	_, problems, _ = runIn(t, dir, "", "send", "a.b", "e.json", "--key", "x")
	if !strings.Contains(problems, "write @e.json") {
		t.Errorf("send with a file's name: %s", problems)
	}
}

func TestScripts_ShadowRunAndFlagsInMessages(t *testing.T) {
	t.Parallel()
	p := serve(t, t.TempDir())
	dir := writeFiles(t, map[string]string{
		"one.expr": "data.n > 1", "two.expr": "data.n > 2",
		"bad.json": `{"cases": [{"name": "never", "event": {"type": "a.b", "data": {"n": 1}}, "expect": {"matches": true}}]}`,
	})
	run := func(status int, want string, args ...string) {
		t.Helper()
		out, problems, got := runIn(t, dir, "", append([]string{"scripts", "--server", p.api.URL, "--key", testKey}, args...)...)
		if got != status || !strings.Contains(out+problems, want) || strings.Contains(out+problems, `"force"`) {
			t.Errorf("%v: want status %d and %q, got %d\n%s%s", args, status, want, got, out, problems)
		}
	}
	run(0, "version 1 is live", "push", "f", "one.expr", "--live")
	run(1, "404", "shadow", "show", "f")
	run(1, "is the live one", "shadow", "start", "f", "1")
	run(0, "version 2", "push", "f", "two.expr")
	sink := testkit.NewReceiver(t, nil)
	post(t, p, "/api/v1/subscriptions", map[string]any{"event": "*", "target_url": sink.URL, "filter_script": "f"}, nil)
	run(0, "version 2 of f runs beside the live version until", "shadow", "start", "f", "--duration", "10m")
	for n := range 4 {
		post(t, p, "/api/v1/events", api.PublishRequest{Type: "a.b", Data: json.RawMessage(fmt.Sprintf(`{"n":%d}`, n))}, nil)
	}
	testkit.WaitFor(t, "the shadow run has counted", func() bool {
		out, _, _ := runIn(t, dir, "", "scripts", "--server", p.api.URL, "--key", testKey, "shadow", "show", "f")
		return regexp.MustCompile(`(?m)^events +4$`).MatchString(out) && regexp.MustCompile(`(?m)^no longer matched +1$`).MatchString(out)
	})
	run(0, "", "shadow", "stop", "f")
	run(1, "404", "shadow", "show", "f")
	run(0, "", "push", "f", "two.expr", "--cases", "bad.json", "--note", "x")
	run(1, "--force", "live", "f", "2")
	run(0, "version 2 is live", "live", "f", "2", "--force")
}

func TestLookupVariable_TrimsTrailingLineBreaks(t *testing.T) {
	t.Setenv("LOOKUP_VARIABLE_TEST", "token\r\n")
	if value, set := lookupVariable("LOOKUP_VARIABLE_TEST"); value != "token" || !set {
		t.Errorf("%q, %v", value, set)
	}
}
