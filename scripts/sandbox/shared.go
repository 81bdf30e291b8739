package sandbox

import (
	"os"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const sharedBytes = 4096

// shared is the page of memory that a child and its parent both see. The child writes
// it, the parent reads it and believes it only where it agrees with its own books.
type shared struct {
	memory []byte
	words  *struct{ job, began atomic.Uint64 }
}

func mapShared(f *os.File) (*shared, error) {
	memory, err := unix.Mmap(int(f.Fd()), 0, sharedBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, os.NewSyscallError("mmap", err)
	}
	s := &shared{memory: memory}
	s.words = (*struct{ job, began atomic.Uint64 })(unsafe.Pointer(unsafe.SliceData(memory)))
	return s, nil
}

func (s *shared) close() { _ = unix.Munmap(s.memory) }

// begin notes the job that starts, and the process's CPU time at its start. Job 0 is none.
func (s *shared) begin(job uint64, cpu time.Duration) {
	s.words.job.Store(0) // so that a reader never pairs a job with another's time
	s.words.began.Store(uint64(cpu))
	s.words.job.Store(job)
}

// now gives the job that is on, 0 if none is.
func (s *shared) now() (job uint64, began time.Duration) {
	job = s.words.job.Load()
	began = time.Duration(s.words.began.Load())
	if s.words.job.Load() != job {
		return 0, 0 // it changed just now
	}
	return job, began
}
