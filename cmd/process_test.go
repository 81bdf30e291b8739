package cmd

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"switchhook/engine/testkit"
	"switchhook/scripts/sandbox"
)

// The tests start this test binary as switchhook.
const asSwitchhook = "TEST_AS_SWITCHHOOK"

// program is what the tests start as switchhook: this binary, or one without the race
// detector, which would make each start several times as expensive.
var program = os.Args[0]

// withRace is the first of a router's flags in tests of what cmd does concurrently: then
// the router has the race detector if the tests have.
const withRace = "-race"

func TestMain(m *testing.M) {
	sandbox.RunIfChild()
	if os.Getenv(asSwitchhook) != "" {
		os.Exit(Main(os.Args[1:]))
	}
	if testkit.Race {
		var err error
		if program, err = testkit.Program("switchhook"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

const testKey = "test-admin-key-0123456789"

// process is a running switchhook.
type process struct {
	*exec.Cmd
	t    *testing.T
	api  *client
	ends chan error
	env  []string // of the commands that are run against it
}

func command(args ...string) *exec.Cmd {
	c := exec.Command(program, args...)
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
	testkit.WaitFor(t, "the router is ready", p.ready)
	return p
}

// launch starts a router without waiting for it.
func launch(t *testing.T, log io.Writer, data string, flags ...string) *process {
	t.Helper()
	addr, raced := testkit.FreeAddress(t), len(flags) > 0 && flags[0] == withRace
	if raced {
		flags = flags[1:]
	}
	c := command(append([]string{"serve", "--listen", addr, "--data", data, "--allow-targets", "127.0.0.0/8", "--admin-key", testKey, "--log-level", "warn"}, flags...)...)
	if raced {
		c.Path = os.Args[0]
	}
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

func (p *process) ready() bool {
	res, err := http.Get(p.api.URL + "/readyz")
	if err != nil {
		return false
	}
	res.Body.Close()
	return res.StatusCode == http.StatusOK
}

// end sends a signal and waits for the process to end.
func (p *process) end(s os.Signal) error {
	p.t.Helper()
	p.Process.Signal(s)
	select {
	case err := <-p.ends:
		return err
	case <-time.After(testkit.Timeout):
		p.t.Fatal("the process does not end")
		return nil
	}
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

// call makes a request without options; see api.Client.Do.
func (c *client) call(ctx context.Context, method, path string, in, out any) error {
	return c.Do(ctx, method, path, in, out)
}
