package cmd

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"switchhook/engine/testkit"
	"switchhook/server/api"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// deliver publishes n events and waits until sink has received them all.
func deliver(t *testing.T, p *process, sink *testkit.Receiver, n int) {
	t.Helper()
	bodies := make([]string, n)
	for i := range bodies {
		id := fmt.Sprintf("%d-%d", time.Now().UnixNano(), i)
		bodies[i] = `"` + id + `"`
		post(t, p, "/api/v1/events", api.PublishRequest{Type: "a.b", Data: json.RawMessage(bodies[i])}, nil)
	}
	testkit.WaitFor(t, "all events are delivered", func() bool { return sink.Missing(bodies) == 0 })
}

func subscribeCounter(t *testing.T, p *process, sink *testkit.Receiver) {
	t.Helper()
	post(t, p, "/api/v1/subscriptions", map[string]any{"event": "*", "target_url": sink.URL, "payload_format": "data"}, nil)
}

func TestServe_LogReaderThatEndsDoesNotEndTheRouter(t *testing.T) {
	t.Parallel()
	sink := testkit.NewReceiver(t, nil)
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p := launch(t, writer, t.TempDir(), withRace, "--log-level", "debug", "--access-log")
	writer.Close()
	if _, err := bufio.NewReader(reader).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	reader.Close() // as head -1 does
	testkit.WaitFor(t, "the router is ready", p.ready)
	subscribeCounter(t, p, sink)
	deliver(t, p, sink, 20)
	if err := p.end(syscall.SIGTERM); err != nil {
		t.Errorf("the router did not drain at SIGTERM: %v", err)
	}
}

func TestServe_UnreadLogDelaysNoDelivery(t *testing.T) {
	t.Parallel()
	sink := testkit.NewReceiver(t, nil)
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	p := launch(t, writer, t.TempDir(), withRace, "--log-level", "debug", "--access-log")
	writer.Close()
	testkit.WaitFor(t, "the router is ready", p.ready)
	subscribeCounter(t, p, sink)
	for range 15 { // each event logs several lines: more than the pipe and the queue hold
		deliver(t, p, sink, 200)
	}
	if err := p.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	lines := make(chan string)
	go func() {
		defer close(lines)
		for scanner := bufio.NewScanner(reader); scanner.Scan(); {
			lines <- scanner.Text()
		}
	}()
	lost := false
	for deadline := time.After(testkit.Timeout); !lost; {
		select {
		case line := <-lines:
			lost = strings.Contains(line, "log lines were dropped") && strings.Contains(line, `"lines":`)
		case <-deadline:
			t.Fatal("nothing says that lines were lost")
		}
	}
	go func() {
		for range lines {
		}
	}()
	if err := p.end(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
}

func TestServe_StopsWithUnreadLog(t *testing.T) {
	t.Parallel()
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	// The pipe is full before the router starts.
	fd := int(writer.Fd())
	if err := syscall.SetNonblock(fd, true); err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{4096, 1} {
		for err = nil; err == nil; {
			_, err = syscall.Write(fd, make([]byte, size))
		}
		if err != syscall.EAGAIN {
			t.Fatal(err)
		}
	}
	if err := syscall.SetNonblock(fd, false); err != nil {
		t.Fatal(err)
	}
	p := launch(t, writer, t.TempDir(), withRace, "--log-level", "info")
	writer.Close()
	testkit.WaitFor(t, "the router is ready", p.ready)
	if err := p.end(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
}

func TestServe_LogThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err)
	}
	defer full.Close()
	sink := testkit.NewReceiver(t, nil)
	p := serveTo(t, full, t.TempDir(), "--log-level", "debug", "--access-log")
	subscribeCounter(t, p, sink)
	deliver(t, p, sink, 5)
	if err := p.end(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
}

func TestServe_SignalsOfServicesDoNotEndIt(t *testing.T) {
	t.Parallel()
	log, sink := &testkit.Buffer{}, testkit.NewReceiver(t, nil)
	p := serveTo(t, log, t.TempDir(), withRace, "--log-level", "info")
	subscribeCounter(t, p, sink)
	for signal, want := range map[syscall.Signal]string{
		syscall.SIGHUP: "SIGHUP: there is nothing to reload", syscall.SIGUSR1: "user defined signal 1", syscall.SIGUSR2: "user defined signal 2",
		syscall.SIGALRM: "alarm clock", syscall.SIGXFSZ: "file size limit exceeded",
	} {
		p.Process.Signal(signal)
		testkit.WaitFor(t, want+" is logged", func() bool { return log.Contains(want) })
	}
	p.Process.Signal(syscall.SIGPIPE)
	p.Process.Signal(syscall.SIGTSTP)
	p.Process.Signal(syscall.SIGCONT)
	deliver(t, p, sink, 3)
	if err := p.end(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
}

func TestServe_HangupReloadsDialects(t *testing.T) {
	t.Parallel()
	folder, log := t.TempDir(), &testkit.Buffer{}
	p := serveTo(t, log, t.TempDir(), withRace, "--log-level", "info", "--dialects", folder)
	file := filepath.Join(folder, "x.yaml")
	if err := os.WriteFile(file, []byte("nothing: that is a dialect\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p.Process.Signal(syscall.SIGHUP)
	testkit.WaitFor(t, "the reload is logged", func() bool { return log.Contains(`"msg":"SIGHUP: reloaded","what":["dialects"]`) })
	testkit.WaitFor(t, "the file's mistake is logged", func() bool { return log.Contains("dialect not taken") })
	if err := p.end(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
}

// openTerminal opens a pseudo-terminal.
func openTerminal(t *testing.T) (master, terminal *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skip(err)
	}
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	}
	if err != nil {
		t.Skip(err)
	}
	return master, terminal
}

// A router started from a terminal ends with it, but drains first.
func TestServe_DrainsWhenItsTerminalCloses(t *testing.T) {
	t.Parallel()
	master, terminal := openTerminal(t)
	defer master.Close()
	addr := testkit.FreeAddress(t)
	c := command("serve", "--listen", addr, "--data", t.TempDir(), "--admin-key", testKey)
	log := &testkit.Buffer{}
	c.Stdin, c.Stderr = terminal, log
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := c.Start(); err != nil {
		t.Skip(err)
	}
	p := &process{Cmd: c, t: t, api: newClient("http://"+addr, testKey), ends: make(chan error, 1)}
	go func() { p.ends <- c.Wait() }()
	t.Cleanup(func() { c.Process.Kill() })
	terminal.Close()
	testkit.WaitFor(t, "the router is ready", p.ready)
	p.Process.Signal(syscall.SIGHUP) // sent manually: the terminal still exists
	testkit.WaitFor(t, "the signal is logged", func() bool { return log.Contains("nothing to reload") })
	if !p.ready() {
		t.Fatal("it does not serve any more")
	}
	master.Close() // the kernel sends SIGHUP
	p.endsWith(t, log)
	if !log.Contains("the terminal is gone") || !log.Contains(`"msg":"stopped"`) {
		t.Errorf("\n%s", log)
	}
}

func TestListen_DeletesSubscriptionOnClosedPipe(t *testing.T) {
	t.Parallel()
	p := serve(t, t.TempDir())
	c := command("listen", "--addr", "127.0.0.1:0", "--subscribe", "a.b", "--server", p.api.URL, "--key", testKey)
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.Stderr = os.Stderr
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Process.Kill() })
	lines := bufio.NewReader(out)
	for line := ""; !strings.HasPrefix(line, "subscribed to"); {
		if line, err = lines.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	out.Close()
	post(t, p, "/api/v1/events", api.PublishRequest{Type: "a.b", Data: json.RawMessage(`1`)}, nil)
	if err := c.Wait(); c.ProcessState.ExitCode() != pipeClosed {
		t.Errorf("it ended with %v", err)
	}
	list, err := api.Collect(p.api.ListSubscriptions(context.Background(), api.ListSubscriptionsParams{}))
	if err != nil || len(list) != 0 {
		t.Errorf("subscriptions left: %v, %v", list, err)
	}
	if res, err := http.Get(p.api.URL + "/readyz"); err != nil || res.StatusCode != http.StatusOK {
		t.Errorf("the router: %v", err)
	}
}
