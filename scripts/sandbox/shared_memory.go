package sandbox

import (
	"os"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const sharedBytes = 4096

// shared is the page of memory that a child shares with its parent. The child writes job and
// began, which the parent accepts only if they agree with its own records, and inRegexp,
// which only makes a message clearer. The parent writes the rest and never reads it.
type shared struct {
	memory []byte
	words  *sharedWords
}

type sharedWords struct {
	job, began atomic.Uint64
	inRegexp   atomic.Bool   // the run is over its time limit and was found in a regular expression
	toSkip     atomic.Uint64 // number of valid entries of skip
	skip       [maxPipelined]atomic.Uint64
}

func mapShared(f *os.File) (*shared, error) {
	memory, err := unix.Mmap(int(f.Fd()), 0, sharedBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, os.NewSyscallError("mmap", err)
	}
	s := &shared{memory: memory}
	s.words = (*sharedWords)(unsafe.Pointer(unsafe.SliceData(memory)))
	return s, nil
}

func (s *shared) close() { _ = unix.Munmap(s.memory) }

// begin records the job that starts and the process's CPU time at its start. Job 0 is none.
func (s *shared) begin(job uint64, cpu time.Duration) {
	s.words.job.Store(0) // so that a reader never pairs a job with another job's time
	s.words.began.Store(uint64(cpu))
	s.words.inRegexp.Store(false)
	s.words.job.Store(job)
}

// now returns the current job and its start, 0 if there is none.
func (s *shared) now() (job uint64, began time.Duration) {
	job = s.words.job.Load()
	began = time.Duration(s.words.began.Load())
	if s.words.job.Load() != job {
		return 0, 0 // it changed just now
	}
	return job, began
}

// skip sets the jobs that the child must skip, replacing the previous ones.
func (s *shared) skip(jobs []uint64) {
	s.words.toSkip.Store(0)
	for i, id := range jobs {
		s.words.skip[i].Store(id)
	}
	s.words.toSkip.Store(uint64(len(jobs)))
}

// skips reports whether the parent has reclaimed a job.
func (s *shared) skips(job uint64) bool {
	for i := range min(s.words.toSkip.Load(), maxPipelined) {
		if s.words.skip[i].Load() == job {
			return true
		}
	}
	return false
}
