package sandbox_test

import (
	"errors"
	"syscall"
	"testing"
	"time"

	"switchhook/scripts"
	"switchhook/scripts/sandbox"
)

// A pool that has no file descriptors left for another process reports it at once, keeps its
// protections, and resumes as soon as there are some.
func TestPool_OutOfFileDescriptors(t *testing.T) {
	p := start(t, sandbox.Config{Processes: 2})
	good, crashes := compile(t, p, `export default () => 1`), compile(t, p, `export default () => { return new ArrayBuffer(2 ** 40) }`)
	before := p.Protections()
	var old syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	few := old
	few.Cur = 3 // open files stay open
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &few); err != nil {
		t.Fatal(err)
	}
	defer syscall.Setrlimit(syscall.RLIMIT_NOFILE, &old)
	var e *scripts.Error // each run ends a process, until there is none
	for deadline := time.Now().Add(30 * time.Second); ; {
		if time.Now().After(deadline) {
			t.Fatalf("the last: %v", e)
		}
		began := time.Now()
		_, err := p.Run(t.Context(), crashes, event(`0`), post)
		if !errors.As(err, &e) {
			t.Fatal(err)
		}
		if e.ScriptFault() {
			continue
		}
		if !errors.Is(err, syscall.EMFILE) {
			t.Errorf("%v, caused by %v", err, e.Cause)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("it took %s to say so", took)
		}
		break
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if _, err := p.Run(t.Context(), good, event(`0`), post); err == nil {
			break
		} else if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	if after := p.Protections(); after.String() != before.String() {
		t.Errorf("protected by %s, before by %s", after, before)
	}
}
