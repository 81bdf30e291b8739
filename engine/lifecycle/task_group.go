package lifecycle

import "sync"

// TaskGroup counts the tasks that a stop waits for. Tasks may be added while Wait is running,
// which a sync.WaitGroup forbids.
type TaskGroup struct {
	mu      sync.Mutex
	n       int
	stopped bool
	idle    chan struct{} // closed when n gets to 0; nil: Wait is not running
}

// Add adds a task, which Done ends; it returns false after Close.
func (u *TaskGroup) Add() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.stopped {
		return false
	}
	u.n++
	return true
}

// Done ends a task.
func (u *TaskGroup) Done() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.n--; u.n == 0 && u.idle != nil {
		close(u.idle)
		u.idle = nil
	}
}

// Go runs do as a task in a goroutine; it returns false after Close.
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

// Close makes Add and Go return false from now on.
func (u *TaskGroup) Close() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.stopped = true
}

// Wait waits until all tasks have ended.
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

// Count returns the number of tasks.
func (u *TaskGroup) Count() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.n
}
