package lifecycle

import "sync"

// TaskGroup counts what a stop waits for. Requests begin such things while somebody waits
// already, which a sync.WaitGroup forbids.
type TaskGroup struct {
	mu      sync.Mutex
	n       int
	stopped bool
	idle    chan struct{} // closed when n gets to 0; nil: nobody waits
}

// Add counts one more, for which end is to be called; false once nothing is to begin.
func (u *TaskGroup) Add() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.stopped {
		return false
	}
	u.n++
	return true
}

// Done counts one less.
func (u *TaskGroup) Done() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.n--; u.n == 0 && u.idle != nil {
		close(u.idle)
		u.idle = nil
	}
}

// Go runs do in a goroutine that counts; false once nothing is to begin.
func (u *TaskGroup) Go(do func()) bool {
	if !u.Add() {
		return false
	}
	go func() {
		defer u.Done()
		do()
	}()
	return true
}

// Close lets nothing begin any more.
func (u *TaskGroup) Close() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.stopped = true
}

// Wait waits until nothing is left.
func (u *TaskGroup) Wait() {
	u.mu.Lock()
	if u.n == 0 {
		u.mu.Unlock()
		return
	}
	if u.idle == nil {
		u.idle = make(chan struct{})
	}
	idle := u.idle
	u.mu.Unlock()
	<-idle
}

// Count is how many there are.
func (u *TaskGroup) Count() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.n
}
