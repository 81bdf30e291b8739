package sandbox

import (
	"bytes"
	"runtime"
	"sync"
	"time"
)

// watchdog checks every few milliseconds during runs. It interrupts a run, or a check, that
// has used its CPU time; wall time does not count, since the process may have waited for a
// processor. It also writes the answers that wait behind a long run.
type watchdog struct {
	server *server
	timer  *time.Timer

	mu          sync.Mutex
	running     bool          // the timer is set
	began       time.Duration // CPU time of the process
	soft        time.Duration // CPU time after which the run is interrupted
	interrupt   func()        // nil if no run is active
	locatedHang bool          // the stack of the hanging run was inspected
}

func (w *watchdog) begin(cpu, soft time.Duration) {
	w.mu.Lock()
	w.began, w.soft, w.locatedHang = cpu, soft, false
	if !w.running {
		w.running = true
		w.timer.Reset(watchEvery)
	}
	w.mu.Unlock()
}

func (w *watchdog) interruptible(interrupt func()) {
	w.mu.Lock()
	w.interrupt = interrupt
	w.mu.Unlock()
}

func (w *watchdog) end() {
	w.mu.Lock()
	w.interrupt = nil
	w.mu.Unlock()
}

func (w *watchdog) idle() {
	w.mu.Lock()
	if w.running {
		w.running = false
		w.timer.Stop()
	}
	w.mu.Unlock()
}

func (w *watchdog) check() {
	_ = w.server.flush() // the loop meets the same error
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.running {
		return
	}
	next := watchEvery
	if w.interrupt != nil {
		left := w.soft - (processCPU() - w.began)
		if left <= 0 {
			w.interrupt()
			if left < -w.soft/4 && !w.locatedHang { // it is in a built-in function that can't be interrupted
				w.locatedHang = true
				w.server.shared.words.inRegexp.Store(inRegexp())
			}
		} else {
			next = min(next, left)
		}
	}
	w.timer.Reset(next)
}

// inRegexp reports whether a goroutine of the process is in Go's regexp package, or compiles
// a pattern. After the process is ready, only a script's run can be.
func inRegexp() bool {
	stacks := make([]byte, 32<<10)
	stacks = stacks[:runtime.Stack(stacks, true)]
	return bytes.Contains(stacks, []byte("\nregexp.")) || bytes.Contains(stacks, []byte("\nregexp/syntax.")) || bytes.Contains(stacks, []byte("/regexp2/"))
}
