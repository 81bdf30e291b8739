//go:build linux && (amd64 || arm64)

package sandbox

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// systemCalls are the calls that the Go runtime needs after warmUp: memory, threads, signals,
// clocks, and reading and writing open files. None of them opens, connects, starts or finds
// anything.
var systemCalls = append([]uint32{
	unix.SYS_READ, unix.SYS_WRITE, unix.SYS_CLOSE,
	unix.SYS_FUTEX, unix.SYS_SCHED_YIELD, unix.SYS_SCHED_GETAFFINITY,
	unix.SYS_NANOSLEEP, unix.SYS_CLOCK_NANOSLEEP, unix.SYS_CLOCK_GETTIME, unix.SYS_CLOCK_GETRES, unix.SYS_GETTIMEOFDAY,
	unix.SYS_EPOLL_PWAIT, unix.SYS_EPOLL_CTL, unix.SYS_EPOLL_CREATE1, unix.SYS_EVENTFD2,
	unix.SYS_MUNMAP, unix.SYS_MADVISE, unix.SYS_MINCORE, unix.SYS_MREMAP, unix.SYS_BRK,
	unix.SYS_RT_SIGACTION, unix.SYS_RT_SIGPROCMASK, unix.SYS_RT_SIGRETURN, unix.SYS_SIGALTSTACK, unix.SYS_RESTART_SYSCALL,
	unix.SYS_GETPID, unix.SYS_GETTID, unix.SYS_EXIT, unix.SYS_EXIT_GROUP,
	unix.SYS_SET_ROBUST_LIST, unix.SYS_RSEQ, unix.SYS_MEMBARRIER,
	unix.SYS_GETRANDOM, unix.SYS_GETRUSAGE, unix.SYS_PPOLL,
}, archSystemCalls...)

// Offsets in struct seccomp_data. Arguments are 64 bits wide, low half first.
const (
	offsetNumber = 0
	offsetArch   = 4
	offsetArgs   = 16
)

const (
	allow = unix.SECCOMP_RET_ALLOW
	deny  = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
)

// filterSystemCalls restricts all threads of this process to systemCalls, permanently. Other
// calls fail with EPERM, so that the process can still report the error.
func filterSystemCalls() error {
	program := filter(uint32(os.Getpid()))
	fprog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	if tid, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&fprog))); errno != 0 {
		return errno
	} else if tid != 0 {
		return fmt.Errorf("thread %d does not take the filter", tid)
	}
	return nil
}

func filter(pid uint32) []unix.SockFilter {
	load := func(offset uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
	}
	ret := func(what uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: what}
	}
	// jump skips yes or no instructions.
	jump := func(how uint16, k uint32, yes, no uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | how | unix.BPF_K, K: k, Jt: yes, Jf: no}
	}
	arg := func(i uint32) unix.SockFilter { return load(offsetArgs + 8*i) }

	f := []unix.SockFilter{
		load(offsetArch),
		jump(unix.BPF_JEQ, auditArch, 1, 0),
		ret(deny), // the numbers of another instruction set mean other calls
		load(offsetNumber),
	}
	for _, call := range systemCalls {
		f = append(f, jump(unix.BPF_JEQ, call, 0, 1), ret(allow))
	}
	// only adds a rule for one call that also checks its arguments; body must return.
	only := func(call uint32, body ...unix.SockFilter) {
		f = append(f, jump(unix.BPF_JEQ, call, 0, uint8(len(body))))
		f = append(f, body...)
	}
	// Threads, not processes. clone3 hides its flags behind a pointer; the C library
	// falls back to clone when the kernel seems not to know it.
	only(unix.SYS_CLONE, arg(0), jump(unix.BPF_JSET, unix.CLONE_THREAD, 0, 1), ret(allow), ret(deny))
	only(unix.SYS_CLONE3, ret(unix.SECCOMP_RET_ERRNO|uint32(unix.ENOSYS)))
	// Signals to its own threads: Go preempts with them.
	only(unix.SYS_TGKILL, arg(0), jump(unix.BPF_JEQ, pid, 0, 1), ret(allow), ret(deny))
	// No memory that can be executed.
	for _, call := range []uint32{unix.SYS_MMAP, unix.SYS_MPROTECT} {
		only(call, arg(2), jump(unix.BPF_JSET, unix.PROT_EXEC, 0, 1), ret(deny), ret(allow))
	}
	// Names for threads and memory.
	only(unix.SYS_PRCTL, arg(0), jump(unix.BPF_JEQ, unix.PR_SET_NAME, 1, 0), jump(unix.BPF_JEQ, unix.PR_SET_VMA, 0, 1), ret(allow), ret(deny))
	// Reading limits (the C library does for a thread's stack), not setting them.
	only(unix.SYS_PRLIMIT64, arg(2), jump(unix.BPF_JEQ, 0, 0, 3),
		load(offsetArgs+8*2+4), jump(unix.BPF_JEQ, 0, 0, 1), ret(allow), ret(deny))
	return append(f, ret(deny))
}
