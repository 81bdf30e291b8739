package sandbox

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"time"

	"switchhook/scripts"

	"golang.org/x/sys/unix"
)

const maxDescriptors = 16

// harden restricts this process permanently. It is called once, after warmUp and before any
// input is read.
func harden(limits scripts.Limits) Protections {
	var p Protections
	try := func(what string, err error) bool {
		if err != nil {
			p.Problems = append(p.Problems, what+": "+err.Error())
		}
		return err == nil
	}
	// It was started as /proc/self/exe; the name tells ps and top which program it belongs to.
	_ = os.WriteFile("/proc/self/comm", []byte("switchhook"), 0)
	base, err := writableMemory()
	if try("read VmData", err) {
		p.MemoryBase = base
		p.MemoryLimit = try("RLIMIT_DATA", setLimit(unix.RLIMIT_DATA, uint64(base+limits.Memory)))
	}
	p.NoCoreDumps = try("RLIMIT_CORE", setLimit(unix.RLIMIT_CORE, 0))
	p.NoFileWrites = try("RLIMIT_FSIZE", setLimit(unix.RLIMIT_FSIZE, 0))
	p.FewDescriptors = try("RLIMIT_NOFILE", setLimit(unix.RLIMIT_NOFILE, maxDescriptors))
	// The parent sets this, too, but entering a user namespace clears it. If the parent has
	// already exited, the end of the pipe shows it.
	p.DiesWithParent = try("PR_SET_PDEATHSIG", unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0))
	p.NetworkNamespace = os.Getenv(namespaceVariable) != ""
	_ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0) // other processes of the same user can't trace it
	p.NoNewPrivileges = try("PR_SET_NO_NEW_PRIVS", unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
	if p.NoNewPrivileges {
		p.SystemCalls = try("seccomp", filterSystemCalls()) && try("seccomp does not hold", probe())
	}
	return p
}

func setLimit(which int, n uint64) error {
	return unix.Setrlimit(which, &unix.Rlimit{Cur: n, Max: n})
}

// writableMemory returns the memory that RLIMIT_DATA counts: VmData of /proc/self/status, in bytes.
func writableMemory() (int64, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	_, rest, _ := bytes.Cut(status, []byte("\nVmData:"))
	number, _, ok := bytes.Cut(rest, []byte(" kB"))
	if !ok {
		return 0, fmt.Errorf("no VmData in /proc/self/status")
	}
	kb, err := strconv.ParseInt(string(bytes.TrimSpace(number)), 10, 64)
	return kb << 10, err
}

// probe checks that the filter refuses system calls that it must refuse.
func probe() error {
	if fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0); err != unix.EPERM {
		_ = unix.Close(fd)
		return fmt.Errorf("socket gave %v", err)
	}
	if fd, err := unix.Open("/proc/self/status", unix.O_RDONLY, 0); err != unix.EPERM {
		_ = unix.Close(fd)
		return fmt.Errorf("open gave %v", err)
	}
	if err := unix.Kill(1, 0); err != unix.EPERM {
		return fmt.Errorf("kill gave %v", err)
	}
	return nil
}

// processCPU returns the CPU time this process has used.
func processCPU() time.Duration { return readClock(unix.CLOCK_PROCESS_CPUTIME_ID) }

func readClock(id int32) time.Duration {
	var t unix.Timespec
	if unix.ClockGettime(id, &t) != nil {
		return 0
	}
	return time.Duration(t.Nano())
}
