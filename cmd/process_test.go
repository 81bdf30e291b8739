package cmd

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"switchhook/scripts/sandbox"
)

// The tests start this very test binary as switchhook.
const asSwitchhook = "SWITCHHOOK_TEST_AS_MAIN"

func TestMain(m *testing.M) {
	sandbox.RunIfChild()
	if os.Getenv(asSwitchhook) != "" {
		os.Exit(Main(os.Args[1:]))
	}
	os.Exit(m.Run())
}

const testKey = "test-admin-key-0123456789"

// process is a switchhook that runs.
type process struct {
	*exec.Cmd
	t    *testing.T
	api  *client
	ends chan error
}

func command(args ...string) *exec.Cmd {
	c := exec.Command(os.Args[0], args...)
	c.Env = append(os.Environ(), asSwitchhook+"=1")
	return c
}

// serve starts a router on a free port over a data folder, and waits until it is ready.
func serve(t *testing.T, data string, flags ...string) *process {
	t.Helper()
	return serveTo(t, os.Stderr, data, flags...)
}

// serveTo does so with a place for the log.
func serveTo(t *testing.T, log io.Writer, data string, flags ...string) *process {
	t.Helper()
	p := launch(t, log, data, flags...)
	eventually(t, "the router is ready", p.ready)
	return p
}

// launch starts a router without waiting for it.
func launch(t *testing.T, log io.Writer, data string, flags ...string) *process {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	c := command(append([]string{"serve", "--listen", addr, "--data", data, "--allow-targets", "127.0.0.0/8", "--admin-key", testKey, "--log-level", "warn"}, flags...)...)
	c.Stderr = log
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{Cmd: c, t: t, api: newClient("http://"+addr, testKey), ends: make(chan error, 1)}
	go func() { p.ends <- c.Wait() }()
	t.Cleanup(func() { c.Process.Kill() })
	return p
}

func (p *process) ready() bool {
	res, err := http.Get(p.api.url + "/readyz")
	if err != nil {
		return false
	}
	res.Body.Close()
	return res.StatusCode == http.StatusOK
}

func eventually(t *testing.T, what string, met func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !met(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

// end sends a signal and waits for the process to end.
func (p *process) end(s os.Signal) error {
	p.t.Helper()
	p.Process.Signal(s)
	select {
	case err := <-p.ends:
		return err
	case <-time.After(40 * time.Second):
		p.t.Fatal("the process does not end")
		return nil
	}
}

// counter is a receiver that counts bodies.
type counter struct {
	*httptest.Server
	mu  sync.Mutex
	got map[string]int
}

func newCounter(t *testing.T) *counter {
	c := &counter{got: map[string]int{}}
	c.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.got[string(body)]++
	}))
	t.Cleanup(c.Close)
	return c
}

func (c *counter) missing(bodies []string) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, b := range bodies {
		if c.got[b] == 0 {
			n++
		}
	}
	return n
}

func TestOneFolderHasOneRouter(t *testing.T) {
	data := t.TempDir()
	serve(t, data)
	out, err := command("serve", "--listen", "127.0.0.1:0", "--data", data).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "switchhook.db") {
		t.Errorf("a second router on the same folder: %v\n%s", err, out)
	}
}

func TestFirstStartWritesAnAdminKeyThatOnlyItsOwnerReads(t *testing.T) {
	data := filepath.Join(t.TempDir(), "made", "here")
	l, _ := net.Listen("tcp", "127.0.0.1:0")
	addr := l.Addr().String()
	l.Close()
	c := command("serve", "--listen", addr, "--data", data, "--log-level", "error")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer c.Process.Kill()
	var text []byte
	eventually(t, "the key works", func() bool {
		var err error
		if text, err = os.ReadFile(filepath.Join(data, "admin.key")); err != nil {
			return false
		}
		return newClient("http://"+addr, strings.TrimSpace(string(text))).call(context.Background(), http.MethodGet, "/api/v1/keys", nil, nil) == nil
	})
	info, err := os.Stat(filepath.Join(data, "admin.key"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestDemoEndsWellAndPrintsTheWay(t *testing.T) {
	out, err := command("demo", "--once").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"page       http://", "signature ok", "dropped: a test order", "delivered to nobody", "Order 9007199254740993 of Grace <g@example.com>: 250 USD", "Everything came through"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
	if strings.Contains(string(out), "level=") {
		t.Errorf("the demo logs:\n%s", out)
	}
}

func TestSendAndListen(t *testing.T) {
	p := serve(t, t.TempDir())
	l := command("listen", "--addr", "127.0.0.1:0", "--server", p.api.url, "--key", testKey, "--subscribe", "order.*", "--filter", "data.n > 1", "--headers")
	stdout, err := l.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Start(); err != nil {
		t.Fatal(err)
	}
	defer l.Process.Kill()
	var mu sync.Mutex
	var printed strings.Builder
	read := make(chan struct{})
	go func() {
		defer close(read)
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			mu.Lock()
			fmt.Fprintln(&printed, lines.Text())
			mu.Unlock()
		}
	}()
	shows := func(want string) {
		t.Helper()
		eventually(t, "listen prints "+want, func() bool {
			mu.Lock()
			defer mu.Unlock()
			return strings.Contains(printed.String(), want)
		})
	}
	shows("subscribed to order.*")

	send := func(stdin string, args ...string) string {
		t.Helper()
		c := command(append([]string{"send", "--server", p.api.url, "--key", testKey}, args...)...)
		c.Stdin = strings.NewReader(stdin)
		out, err := c.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return string(out)
	}
	if out := send("", "order.created", `{"n":1}`); !strings.Contains(out, "matched 0 subscriptions") {
		t.Error(out)
	}
	if out := send("", "order.created", `{"n":2}`); !strings.Contains(out, "matched 1 subscription") {
		t.Error(out)
	}
	shows("signature ok")
	shows(`"n": 2`)
	var lines strings.Builder
	for i := range 450 {
		fmt.Fprintf(&lines, `{"type":"order.paid","data":{"n":%d}}`+"\n\n", 1000+i)
	}
	if out := send(lines.String(), "--file", "-"); !strings.Contains(out, "accepted 450 events, matched 450 subscriptions") {
		t.Error(out)
	}
	shows(`"n": 1449`)

	bad := command("send", "--server", p.api.url, "--key", testKey, "--file", "-")
	bad.Stdin = strings.NewReader("{\"type\":\"a.b\",\"data\":1}\n{\"type\":\n")
	if out, err := bad.CombinedOutput(); err == nil || !strings.Contains(string(out), "line 2") {
		t.Errorf("%v %s", err, out)
	}

	l.Process.Signal(syscall.SIGTERM)
	<-read
	if err := l.Wait(); err != nil {
		t.Error(err)
	}
	shows("deleted the subscription")
	var left struct{ Data []json.RawMessage }
	if err := p.api.call(context.Background(), http.MethodGet, "/api/v1/subscriptions", nil, &left); err != nil || len(left.Data) != 0 {
		t.Errorf("%v, %d subscriptions left", err, len(left.Data))
	}
}

func TestKeys(t *testing.T) {
	p := serve(t, t.TempDir())
	run := func(args ...string) (string, error) {
		out, err := command(append([]string{"keys", "--server", p.api.url, "--key", testKey}, args...)...).Output()
		return string(out), err
	}
	made, err := run("create", "for a test", "--account", "acme")
	if err != nil {
		t.Fatal(err)
	}
	made = strings.TrimSpace(made)
	if err := newClient(p.api.url, made).call(context.Background(), http.MethodGet, "/api/v1/subscriptions", nil, nil); err != nil {
		t.Error(err)
	}
	listed, err := run("list")
	if err != nil || !strings.Contains(listed, "for a test") || strings.Contains(listed, made) {
		t.Errorf("%v\n%s", err, listed)
	}
	for _, line := range strings.Split(listed, "\n") {
		if strings.Contains(line, "for a test") {
			if _, err := run("delete", strings.Fields(line)[0]); err != nil {
				t.Error(err)
			}
		}
	}
	if err := newClient(p.api.url, made).call(context.Background(), http.MethodGet, "/api/v1/subscriptions", nil, nil); err == nil {
		t.Error("a deleted key still works")
	}
}

// As in "switchhook demo --once | head -1".
func TestDemoTidiesUpWhenNobodyReadsOn(t *testing.T) {
	folder := t.TempDir()
	for _, flags := range [][]string{{"demo", "--once"}, {"demo"}} {
		read, write, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		c := command(flags...)
		c.Env, c.Stdout = append(c.Env, "TMPDIR="+folder), write
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		write.Close()
		if _, err := bufio.NewReader(read).ReadString('\n'); err != nil {
			t.Error(err)
		}
		read.Close()
		c.Wait()
		if left, err := os.ReadDir(folder); err != nil || len(left) != 0 || c.ProcessState.ExitCode() != pipeClosed {
			t.Errorf("%v left, %v, %v", left, err, c.ProcessState)
		}
	}
}

func TestDemoTidiesUpOnASignal(t *testing.T) {
	for _, s := range []os.Signal{syscall.SIGHUP, syscall.SIGTERM, os.Interrupt} {
		folder := t.TempDir()
		c := command("demo")
		c.Env = append(c.Env, "TMPDIR="+folder)
		stdout, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewReader(stdout)
		lines.ReadString('\n')
		c.Process.Signal(s)
		io.Copy(io.Discard, lines)
		c.Wait()
		if left, err := os.ReadDir(folder); err != nil || len(left) != 0 || c.ProcessState.ExitCode() < 0 {
			t.Errorf("%v: %v left, %v, %v", s, left, err, c.ProcessState)
		}
	}
}

func TestAKeyThatCannotBeReadIsNamedWithTheReason(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "switchhook-data", "admin.key"), 0o755); err != nil {
		t.Fatal(err)
	}
	_, stderr, status := runIn(t, dir, "", "keys", "list")
	if status != 1 || !strings.Contains(stderr, filepath.Join("switchhook-data", "admin.key")+" can't be read: is a directory") {
		t.Errorf("status %d: %s", status, stderr)
	}
}

func TestAnotherServersAnswersAreNotTakenForARouters(t *testing.T) {
	for _, answer := range []string{"", "<html>", "{}", "[]", "null"} {
		other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, answer) }))
		for _, args := range [][]string{{"send", "a.b"}, {"keys", "list"}, {"keys", "create", "x"}, {"scripts", "list"}, {"subscriptions", "list"}, {"replays", "list"}, {"replays", "show", "rpl_1"}, {"listen", "--addr", "127.0.0.1:0", "--subscribe", "*"}} {
			_, stderr, status := runIn(t, t.TempDir(), "", append(args, "--server", other.URL, "--key", "x")...)
			if status != 1 || !strings.Contains(stderr, other.URL+" answered, but is no Switchhook router") {
				t.Errorf("%q to %q: status %d, %s", answer, args, status, stderr)
			}
		}
		other.Close()
	}
}

func TestAReceiverOnEveryAddressIsSubscribedWithOneThatIsReached(t *testing.T) {
	r, err := startReceiver("0.0.0.0:0", func(received) int { return http.StatusOK })
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	if !strings.HasPrefix(r.url(), "http://127.0.0.1:") {
		t.Error(r.url())
	}
}

func TestCommandLineMistakesAreExplained(t *testing.T) {
	used, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer used.Close()
	for name, c := range map[string]struct {
		args []string
		want string
		code int
	}{
		"no command":          {nil, "Usage: switchhook", 0},
		"help":                {[]string{"--help"}, "switchhook demo", 0},
		"help of a command":   {[]string{"serve", "--help"}, "SWITCHHOOK_ALLOW_TARGETS", 0},
		"an unknown command":  {[]string{"serv"}, "did you mean", 2},
		"an unknown flag":     {[]string{"serve", "--prot", "1"}, "unknown flag", 2},
		"a bad address range": {[]string{"serve", "--allow-targets", "10.0.0.0/99"}, "--allow-targets", 1},
		"a bad number":        {[]string{"serve", "--in-flight", "0"}, "--in-flight", 1},
		"a bad port":          {[]string{"serve", "--listen", "127.0.0.1:99999", "--data", "/nonexistent/x"}, "listen on 127.0.0.1:99999", 1},
		"nothing to send":     {[]string{"send", "--key", "x"}, "give an event type", 1},
		"no router":           {[]string{"send", "a.b", "--key", "x", "--server", "http://127.0.0.1:1"}, "is the router running?", 1},
		"a bad payload":       {[]string{"send", "a.b", "{", "--key", "x"}, "not JSON", 1},
		"version, as a flag":  {[]string{"--version"}, "switchhook " + Version, 0},
		"version, in short":   {[]string{"-v"}, "switchhook " + Version, 0},
		"help, as a command":  {[]string{"help"}, "switchhook demo", 0},
		"help on a command":   {[]string{"help", "keys", "create"}, "What the key is for", 0},
		"a key without name":  {[]string{"keys", "create"}, `"switchhook keys create --help"`, 2},
		"no key":              {[]string{"keys", "list"}, "switchhook-data/admin.key)", 1},
		"no scheme":           {[]string{"send", "a.b", "--key", "x", "--server", "localhost:8080"}, "write http://localhost:8080", 2},
		"listen, no port":     {[]string{"listen", "--addr", "127.0.0.1"}, "--addr: \"127.0.0.1\" is no address with a port", 2},
		"a filter of nothing": {[]string{"listen", "--filter", "true"}, "give --subscribe too", 2},
		"a bad secret":        {[]string{"listen", "--secret", "x"}, "--secret: must be", 2},
		"a port in use":       {[]string{"serve", "--listen", used.Addr().String()}, "is in use: is a router running already? --listen gives another address", 1},
		"listen, in use":      {[]string{"listen", "--addr", used.Addr().String()}, "is in use: is another receiver running already? --addr gives", 1},
		"version":             {[]string{"version"}, "switchhook " + Version, 0},
	} {
		cmd := command(c.args...)
		cmd.Dir = t.TempDir()
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState.ExitCode() != c.code || !strings.Contains(string(out), c.want) {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}
