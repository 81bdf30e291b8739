package examples_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"switchhook/engine/testkit"
	"syscall"
	"testing"
	"time"
)

// buildProgram builds a main package of this module and returns the program's path.
func buildProgram(t *testing.T, pkg string) string {
	t.Helper()
	path, err := testkit.Program(pkg)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// program is a process that runs during the test and is ended with it.
type program struct {
	cmd    *exec.Cmd
	ended  chan struct{}
	output testkit.Buffer
}

func start(t *testing.T, folder string, env []string, name string, args ...string) *program {
	t.Helper()
	p := &program{cmd: exec.Command(name, args...), ended: make(chan struct{})}
	p.cmd.Dir, p.cmd.Env = folder, append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = &p.output, &p.output
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.cmd.Wait(); close(p.ended) }()
	t.Cleanup(func() { p.stop(t) })
	return p
}

func (p *program) text() string { return p.output.String() }

// stop interrupts the process as a user would, and ensures that it ends.
func (p *program) stop(t *testing.T) {
	p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(testkit.Timeout):
		p.cmd.Process.Kill()
		t.Errorf("%s did not end on SIGTERM:\n%s", p.cmd.Path, p.text())
	}
}

// shows waits until the output contains a text.
func (p *program) shows(t *testing.T, text string) {
	t.Helper()
	waitFor(t, func() bool { return strings.Contains(p.text(), text) }, func() string {
		return "no " + text + " in the output of " + filepath.Base(p.cmd.Path) + ":\n" + p.text()
	})
}

// waitFor polls until ok returns true. If it does not, the complaint is logged.
func waitFor(t *testing.T, ok func() bool, complaint func() string) {
	t.Helper()
	defer func() {
		if t.Failed() {
			t.Log(complaint())
		}
	}()
	testkit.WaitFor(t, "the output is complete", ok)
}

// get reads a resource of the router.
func get(t *testing.T, url, key string, into any) {
	t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+key)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: %s %v\n%s", url, res.Status, err, body)
	}
	if err := json.Unmarshal(body, into); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
