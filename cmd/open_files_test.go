//go:build unix

package cmd

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"switchhook/engine/testkit"
	"switchhook/server/api"
	"syscall"
	"testing"
	"time"
)

func TestMaxConns(t *testing.T) {
	for files, want := range map[uint64]int{0: 4096, 1: 1, 64: 32, 256: 128, 1024: 512, 8192: 4096, 1 << 20: 4096, 1<<64 - 1: 4096} {
		if got := maxConns(files); got != want {
			t.Errorf("%d files: %d connections, want %d", files, got, want)
		}
	}
	for files, want := range map[uint64]int{0: 2048, 1: 1, 64: 16, 1024: 256, 8192: 2048, 1 << 20: 2048} {
		if got := defaultInFlight(files); got != want {
			t.Errorf("%d files: %d attempts in flight, want %d", files, got, want)
		}
	}
	if openFilesLimit() == 0 {
		t.Error("the limit of open files is not known")
	}
}

// serveWithFiles starts a router with a limit of open files.
func serveWithFiles(t *testing.T, files int, log *testkit.Buffer, flags ...string) *process {
	t.Helper()
	addr := testkit.FreeAddress(t)
	args := append([]string{"-c", fmt.Sprintf(`ulimit -n %d && exec "$0" "$@"`, files), program, "serve", "--listen", addr, "--data", t.TempDir(), "--allow-targets", "127.0.0.0/8", "--admin-key", testKey, "--log-level", "warn"}, flags...)
	c := exec.Command("sh", args...)
	c.Env = append(os.Environ(), asSwitchhook+"=1")
	c.Stderr = log
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{Cmd: c, t: t, api: newClient("http://"+addr, testKey), ends: make(chan error, 1)}
	ended := make(chan struct{})
	go func() { p.ends <- c.Wait(); close(ended) }()
	t.Cleanup(func() { c.Process.Kill(); <-ended })
	testkit.WaitFor(t, "the router is ready", p.ready)
	return p
}

// publishes publishes an event on a new connection.
func (p *process) publishes() error {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: testkit.Timeout}
	req, err := http.NewRequest("POST", p.api.URL+"/api/v1/events", strings.NewReader(`{"type":"a","data":1}`))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-API-Key", testKey)
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	res.Body.Close()
	if res.StatusCode != http.StatusAccepted {
		return fmt.Errorf("answered %s", res.Status)
	}
	return nil
}

// Idle connections, which need no key, must not exhaust the router's files: it continues to
// accept and deliver events.
func TestOpenFiles_IdleConnectionsDoNotStopTheRouter(t *testing.T) {
	t.Parallel()
	var log testkit.Buffer
	p := serveWithFiles(t, 256, &log)
	receiver := testkit.NewReceiver(t, nil)
	if _, err := p.api.CreateSubscription(t.Context(), api.SubscriptionRequest{Event: api.Some(api.EventNames{"a"}), TargetURL: api.Some(receiver.URL)}); err != nil {
		t.Fatal(err)
	}
	for i := range 600 {
		conn, err := net.Dial("tcp", strings.TrimPrefix(p.api.URL, "http://"))
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		defer conn.Close()
		if i%2 == 0 {
			fmt.Fprint(conn, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
		}
		if i%100 == 99 {
			if err := p.publishes(); err != nil {
				t.Fatalf("beside %d connections: %v\n%s", i, err, log.String())
			}
		}
	}
	receiver.Wait(t, 1)
	if err := p.end(syscall.SIGTERM); err != nil {
		t.Errorf("the router ended with %v\n%s", err, log.String())
	}
}

// If file descriptors run out, here because the connection limit is too high, the router
// logs it and continues once some are free.
func TestOpenFiles_AcceptGoesOn(t *testing.T) {
	t.Parallel()
	var log testkit.Buffer
	p := serveWithFiles(t, 80, &log, "--max-connections", "10000")
	for range 200 {
		conn, err := net.Dial("tcp", strings.TrimPrefix(p.api.URL, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	testkit.WaitFor(t, "the lack of files is logged", func() bool { return strings.Contains(log.String(), "no connection can be accepted now") })
	deadline := time.Now().Add(testkit.Timeout)
	for err := p.publishes(); err != nil; err = p.publishes() {
		if time.Now().After(deadline) {
			t.Fatalf("%v\n%s", err, log.String())
		}
	}
	if got := strings.Count(log.String(), "no connection can be accepted now"); got > 2 {
		t.Errorf("logged %d times", got)
	}
	if err := p.end(syscall.SIGTERM); err != nil {
		t.Errorf("the router ended with %v\n%s", err, log.String())
	}
}
