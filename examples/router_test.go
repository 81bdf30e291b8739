package examples_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const waitTimeout = 90 * time.Second

// programs caches the built binaries, by package; their folder is removed after the tests.
var programs = struct {
	folder string
	built  map[string]string
}{built: map[string]string{}}

// buildProgram compiles a main package of this module, once, and returns the binary's path.
func buildProgram(t *testing.T, pkg, name string) string {
	t.Helper()
	binary := programs.built[pkg]
	if binary == "" {
		binary = filepath.Join(programs.folder, name)
		if out, err := exec.Command("go", "build", "-o", binary, pkg).CombinedOutput(); err != nil {
			t.Fatalf("go build %s: %v\n%s", pkg, err, out)
		}
		programs.built[pkg] = binary
	}
	return binary
}

// program is a process that runs during the test and is ended with it.
type program struct {
	cmd    *exec.Cmd
	ended  chan struct{}
	mu     sync.Mutex
	output bytes.Buffer
}

func start(t *testing.T, folder string, env []string, name string, args ...string) *program {
	t.Helper()
	p := &program{cmd: exec.Command(name, args...), ended: make(chan struct{})}
	p.cmd.Dir, p.cmd.Env = folder, append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = p, p
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.cmd.Wait(); close(p.ended) }()
	t.Cleanup(func() { p.stop(t) })
	return p
}

// Write collects the process's output.
func (p *program) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.output.Write(b)
}

func (p *program) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.output.String()
}

// stop interrupts the process as a user would, and ensures that it ends.
func (p *program) stop(t *testing.T) {
	p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(waitTimeout):
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

// waitFor polls until ok returns true.
func waitFor(t *testing.T, ok func() bool, complaint func() string) {
	t.Helper()
	for deadline := time.Now().Add(waitTimeout); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(complaint())
		}
	}
}

// nextPort is above the ports of services and below the kernel's ephemeral ports, so that
// no other program takes the port between its check and its use.
var nextPort = rand.IntN(12_000)

// freeAddress returns a free loopback address.
func freeAddress(t *testing.T) string {
	t.Helper()
	for range 1000 {
		nextPort++
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 20_000+nextPort%12_000))
		if err == nil {
			defer l.Close()
			return l.Addr().String()
		}
	}
	t.Fatal("no port is free")
	return ""
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
