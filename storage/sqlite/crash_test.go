package sqlite

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"switchhook/engine"
	"switchhook/engine/testkit"
)

// crashChild names the database for a child process that writes until it is killed.
const crashChild = "SWITCHHOOK_CRASH_CHILD"

func TestMain(m *testing.M) {
	if path := os.Getenv(crashChild); path != "" {
		writeUntilKilled(path)
	}
	if path := os.Getenv(migrateChild); path != "" {
		if s, err := Open(context.Background(), v10Options(path)); err != nil || s.Close() != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// writeUntilKilled appends events, records a delivery of each, and writes their numbers to
// standard output once they are on disk.
func writeUntilKilled(path string) {
	s, err := Open(context.Background(), Options{Path: path, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	last, err := s.LastEventID(context.Background(), 0)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	var mu sync.Mutex
	say := func(kind string, id engine.ID) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Printf("%s %d\n", kind, id)
	}
	next := int(last)
	id := func() int {
		mu.Lock()
		defer mu.Unlock()
		next++
		return next
	}
	for range 16 {
		go func() {
			for {
				n := newEvent(id(), 1)
				n.Keys = []engine.KeyHash{engine.EventKeyHash("acme", fmt.Sprint(n.Event.ID))}
				if _, err := s.Append(context.Background(), []engine.NewEvent{n}); err != nil {
					fmt.Println(err)
					os.Exit(1)
				}
				say("event", n.Event.ID)
				s.Record(succeeded(n.Event.ID, 1), func(err error) {
					if err == nil {
						say("delivery", n.Event.ID)
					}
				})
			}
		}()
	}
	select {}
}

// acknowledged collects the output of a child process.
type acknowledged struct {
	mu                 sync.Mutex
	events, deliveries map[engine.ID]bool
}

func (a *acknowledged) read(t *testing.T, r io.Reader) {
	for lines := bufio.NewScanner(r); lines.Scan(); {
		var kind string
		var id engine.ID
		if n, _ := fmt.Sscanf(lines.Text(), "%s %d", &kind, &id); n != 2 {
			t.Errorf("the child said %q", lines.Text())
			continue
		}
		a.mu.Lock()
		if kind == "event" {
			a.events[id] = true
		} else {
			a.deliveries[id] = true
		}
		a.mu.Unlock()
	}
}

// await waits until a child has acknowledged more than before.
func (a *acknowledged) await(t *testing.T, more int) {
	t.Helper()
	count := func() int {
		a.mu.Lock()
		defer a.mu.Unlock()
		return len(a.deliveries)
	}
	before := count()
	testkit.WaitFor(t, "the child writes", func() bool { return count() >= before+more })
}

// check opens a database and looks for everything that was acknowledged.
func (a *acknowledged) check(t *testing.T, path string) {
	t.Helper()
	s := open(t, path)
	integrity(t, s)
	a.mu.Lock()
	defer a.mu.Unlock()
	stored, _, err := s.Events(t.Context(), engine.EventQuery{})
	if err != nil {
		t.Fatal(err)
	}
	have := map[engine.ID]bool{}
	for _, e := range stored {
		have[e.ID] = true
	}
	for id := range a.events {
		if !have[id] {
			t.Errorf("event %d was acknowledged and is lost", id)
		}
	}
	recorded, _, err := s.Deliveries(t.Context(), engine.DeliveryQuery{State: engine.StateSucceeded})
	if err != nil {
		t.Fatal(err)
	}
	have = map[engine.ID]bool{}
	for _, d := range recorded {
		have[d.ID.Event] = true
	}
	for id := range a.deliveries {
		if !have[id] {
			t.Errorf("delivery of %d was acknowledged and is lost", id)
		}
	}
	t.Logf("%d events and %d deliveries acknowledged, %d and %d stored", len(a.events), len(a.deliveries), len(stored), len(recorded))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestKill_UnderLoad kills a writing process several times, at random instants. In between
// it is stopped and its files are copied, as a disk snapshot would.
func TestKill_UnderLoad(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "test.db")
	said := &acknowledged{events: map[engine.ID]bool{}, deliveries: map[engine.ID]bool{}}
	rounds := 5
	if testing.Short() {
		rounds = 2
	}
	for round := range rounds {
		child, reading := said.writer(t, path)
		said.await(t, 50)
		time.Sleep(time.Duration(61*round) * time.Millisecond)

		signal(t, child, syscall.SIGSTOP)
		stopped(t, child)
		copied := filepath.Join(t.TempDir(), "copy.db")
		copyFile(t, path, copied)
		copyFile(t, path+"-wal", copied+"-wal")
		said.check(t, copied)
		signal(t, child, syscall.SIGCONT)

		time.Sleep(time.Duration(50+31*round) * time.Millisecond)
		signal(t, child, syscall.SIGKILL)
		reading.Wait()
		if err := child.Wait(); err == nil {
			t.Fatal("the child ended by itself")
		}
		said.check(t, path)
	}
}

// writer starts a child process that writes to a database until it is killed. reading is
// done once all its output is recorded.
func (a *acknowledged) writer(t *testing.T, path string) (child *exec.Cmd, reading *sync.WaitGroup) {
	t.Helper()
	child = exec.Command(os.Args[0])
	child.Env = append(os.Environ(), crashChild+"="+path)
	child.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	reading = new(sync.WaitGroup)
	reading.Go(func() { a.read(t, out) })
	return child, reading
}

func signal(t *testing.T, c *exec.Cmd, s syscall.Signal) {
	t.Helper()
	if err := c.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, data, 0o600); err != nil {
		t.Fatal(err)
	}
}
