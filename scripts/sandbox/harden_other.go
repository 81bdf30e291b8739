//go:build !linux

package sandbox

import (
	"time"

	"switchhook/scripts"

	"golang.org/x/sys/unix"
)

// harden sets the limits that this platform has: no core dumps and no file writes. Memory is
// bounded by Go's collector only.
func harden(scripts.Limits) Protections {
	p := Protections{Problems: []string{"this platform bounds neither memory nor system calls: run scripts of people you trust, or run on Linux"}}
	zero := &unix.Rlimit{}
	p.NoCoreDumps = unix.Setrlimit(unix.RLIMIT_CORE, zero) == nil
	p.NoFileWrites = unix.Setrlimit(unix.RLIMIT_FSIZE, zero) == nil
	return p
}

// processCPU returns the CPU time this process has used.
func processCPU() time.Duration {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
