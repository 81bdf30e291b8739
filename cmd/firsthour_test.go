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
	"syscall"
	"testing"
)

// serveDev starts a router as a new user does, and gives its log.
func serveDev(t *testing.T, flags ...string) (*process, *logged) {
	t.Helper()
	log := &logged{}
	p := serveTo(t, log, t.TempDir(), append([]string{"--dev", "--log-level", "info"}, flags...)...)
	return p, log
}

// Every command line that a --help shows must work on a router that runs with --dev.
func TestHelp_ExamplesWork(t *testing.T) {
	t.Parallel()
	p, _ := serveDev(t)
	folder := t.TempDir()
	for name, text := range map[string]string{
		"order.ts":   "export default (event: any) => ({ total: event.data.total })",
		"order.json": `{"type": "order.created", "data": {"id": 1, "total": 120}}`,
		"event.json": `{"type": "order.created", "data": {"id": 1, "total": 120}}`,
	} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	bin := t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, "switchhook"), fmt.Appendf(nil, "#!/bin/sh\nexec %s \"$@\"\n", os.Args[0]), 0o700); err != nil {
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
		out, _ := help.CombinedOutput() // the second one is a mistake that shows an example
		for _, line := range example.FindAllStringSubmatch(strings.ReplaceAll(string(out), "such as: ", "\n  "), -1) {
			if text := strings.TrimSpace(line[1]); !strings.Contains(text, "serve --dev") && !strings.HasPrefix(line[0], "Usage:") {
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
		sh.Env = append(os.Environ(), asSwitchhook+"=1", "SWITCHHOOK_SERVER="+p.api.url, "SWITCHHOOK_KEY="+testKey, "PATH="+bin+":"+os.Getenv("PATH"))
		if out, err := sh.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", line, err, out)
		}
	}
}

func TestServeDev_LogsALineForEachEventAndAttempt(t *testing.T) {
	t.Parallel()
	p, log := serveDev(t)
	sink := newCounter(t)
	subscribeCounter(t, p, sink)
	failing := newFailing(t, strings.Repeat("x", 1000)+"\n")
	post(t, p, "/api/v1/subscriptions", map[string]any{"event": "order.paid", "target_url": failing + "/secret"}, nil)
	post(t, p, "/api/v1/subscriptions", map[string]any{"event": "order.paid", "target_url": sink.URL, "transform": `export default () => drop("not\nwanted")`}, nil)
	post(t, p, "/api/v1/subscriptions", map[string]any{"event": "order.paid", "target_url": sink.URL, "transform": `export default () => { throw new Error("` + strings.Repeat("y", 900) + `") }`}, nil)
	post(t, p, "/api/v1/events", outgoingEvent{Type: "order.paid", Data: json.RawMessage(`{"id":1}`)}, nil)
	for _, want := range []string{
		` INF event id=evt_\w+ type=order.paid matched=4`,
		` INF delivered id=dlv_\w+ to=127\.0\.0\.1:\d+ status=200 took=`,
		` INF dropped id=dlv_\w+ to=\S+ reason=not…`,
		` WRN attempt failed id=dlv_\w+ to=\S+ status=500 attempt=1 error=.* again_in=\d+s`,
		` WRN attempt failed id=dlv_\w+ to=\S+ attempt=1 error=.*y…`,
	} {
		eventually(t, want, func() bool { return regexp.MustCompile(want).MatchString(log.String()) })
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

// newFailing is a target that always answers 500.
func newFailing(t *testing.T, body string) string {
	return "http://" + strings.TrimPrefix(answerRaw(t, "HTTP/1.1 500 no\r\nConnection: close\r\nContent-Length: "+fmt.Sprint(len(body))+"\r\n\r\n"+body, nil), "http://")
}

// A target on the router's own machine is refused once, with all that has to be done.
func TestServe_SaysAtOnceHowLoopbackTargetsAreAllowed(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	addr := freeAddress(t)
	start := func(flags ...string) *process {
		c := command(append([]string{"serve", "--listen", addr, "--data", data, "--admin-key", testKey, "--log-level", "warn"}, flags...)...)
		c.Stderr = os.Stderr
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		p := &process{Cmd: c, t: t, api: newClient("http://"+addr, testKey), ends: make(chan error, 1)}
		go func() { p.ends <- c.Wait() }()
		t.Cleanup(func() { c.Process.Kill() })
		eventually(t, "the router is ready", p.ready)
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
	data, log := t.TempDir(), &logged{}
	addr := freeAddress(t)
	c := command("serve", "--listen", addr, "--data", data)
	c.Stderr = log
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer c.Process.Kill()
	eventually(t, "the key's file is logged", func() bool { return log.has(`"msg":"admin key","file":"` + filepath.Join(data, "admin.key") + `"`) })
	c.Process.Signal(syscall.SIGTERM)
	c.Wait()
	key, err := os.ReadFile(filepath.Join(data, "admin.key"))
	if err != nil || log.has(strings.TrimSpace(string(key))) {
		t.Errorf("the log holds the key, or the file is missing: %v", err)
	}
}
