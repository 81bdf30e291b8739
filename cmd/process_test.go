package cmd

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"switchhook/scripts/sandbox"
)

// The tests start this test binary as switchhook.
const asSwitchhook = "TEST_AS_SWITCHHOOK"

func TestMain(m *testing.M) {
	sandbox.RunIfChild()
	if os.Getenv(asSwitchhook) != "" {
		os.Exit(Main(os.Args[1:]))
	}
	os.Exit(m.Run())
}

const testKey = "test-admin-key-0123456789"

// waitTimeout is the maximum wait for an expected condition.
const waitTimeout = 90 * time.Second

// process is a running switchhook.
type process struct {
	*exec.Cmd
	t    *testing.T
	api  *client
	ends chan error
	env  []string // of the commands that are run against it
}

func command(args ...string) *exec.Cmd {
	c := exec.Command(os.Args[0], args...)
	c.Env = append(os.Environ(), asSwitchhook+"=1")
	return c
}

// serve starts a router on a free port with a data folder, and waits until it is ready.
func serve(t *testing.T, data string, flags ...string) *process {
	t.Helper()
	return serveTo(t, os.Stderr, data, flags...)
}

// serveTo is serve with a writer for the log.
func serveTo(t *testing.T, log io.Writer, data string, flags ...string) *process {
	t.Helper()
	p := launch(t, log, data, flags...)
	waitFor(t, "the router is ready", p.ready)
	return p
}

// launch starts a router without waiting for it.
func launch(t *testing.T, log io.Writer, data string, flags ...string) *process {
	t.Helper()
	addr := freeAddress(t)
	c := command(append([]string{"serve", "--listen", addr, "--data", data, "--allow-targets", "127.0.0.0/8", "--admin-key", testKey, "--log-level", "warn"}, flags...)...)
	c.Stderr = log
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{Cmd: c, t: t, api: newClient("http://"+addr, testKey), ends: make(chan error, 1)}
	ended := make(chan struct{})
	go func() { p.ends <- c.Wait(); close(ended) }()
	t.Cleanup(func() { c.Process.Kill(); <-ended }) // before its folder is removed
	return p
}

// nextPort is above the ports of services and below the kernel's ephemeral ports, so that
// no other program takes the port between its check and its use.
var nextPort atomic.Int32

func init() { nextPort.Store(20_000 + rand.Int32N(12_000)) }

// freeAddress returns a free loopback address.
func freeAddress(t *testing.T) string {
	t.Helper()
	for range 1000 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 20_000+nextPort.Add(1)%12_000))
		if err == nil {
			defer l.Close()
			return l.Addr().String()
		}
	}
	t.Fatal("no port is free")
	return ""
}

func (p *process) ready() bool {
	res, err := http.Get(p.api.URL + "/readyz")
	if err != nil {
		return false
	}
	res.Body.Close()
	return res.StatusCode == http.StatusOK
}

func waitFor(t *testing.T, what string, met func() bool) {
	t.Helper()
	for deadline := time.Now().Add(waitTimeout); !met(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("timeout waiting until %s", what)
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
	case <-time.After(waitTimeout):
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

func TestServe_OneRouterPerFolder(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	serve(t, data)
	out, err := command("serve", "--listen", "127.0.0.1:0", "--data", data).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "switchhook.db") {
		t.Errorf("a second router on the same folder: %v\n%s", err, out)
	}
}
