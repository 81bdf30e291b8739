package sandbox

import (
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// executable returns the path of the running binary, valid even if its file was replaced.
func executable() (string, error) {
	const self = "/proc/self/exe"
	if _, err := os.Lstat(self); err != nil {
		return "", fmt.Errorf("sandbox processes are started from %s, so /proc must be mounted: %w", self, err)
	}
	return self, nil
}

// attributes returns attributes with which the kernel kills a child with the thread that
// started it, in its own process group. With isolated it also gets namespaces without network.
func attributes(isolated bool) *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if isolated {
		a.Cloneflags = unix.CLONE_NEWUSER | unix.CLONE_NEWNET | unix.CLONE_NEWIPC
	}
	return a
}

func sharedFile() (*os.File, error) {
	fd, err := unix.MemfdCreate("switchhook-sandbox", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	f := os.NewFile(uintptr(fd), "sandbox shared")
	return f, f.Truncate(sharedBytes)
}

// cpuOf returns the CPU time another process has used; ok is false if it has exited.
func cpuOf(pid int) (used time.Duration, ok bool) {
	const schedClock = 2 // CPUCLOCK_SCHED, see clock_getcpuclockid(3)
	used = readClock(int32(^pid<<3 | schedClock))
	return used, used > 0
}
