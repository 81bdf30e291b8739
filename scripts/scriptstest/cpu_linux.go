package scriptstest

import (
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// CPU returns the CPU time that do takes in its own goroutine. Wall time would include other
// work of the machine.
func CPU(do func()) time.Duration {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	began := threadCPU()
	do()
	return threadCPU() - began
}

func threadCPU() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		panic(err)
	}
	return time.Duration(t.Nano())
}
