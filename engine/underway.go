package engine

import "sync"

// underway counts what a stop waits for. Requests begin such things while somebody waits
// already, which a sync.WaitGroup forbids.
type underway struct {
	mu      sync.Mutex
	n       int
	stopped bool
	idle    chan struct{} // closed when n gets to 0; nil: nobody waits
}

// begin counts one more, for which end is to be called; false once nothing is to begin.
func (u *underway) begin() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.stopped {
		return false
	}
	u.n++
	return true
}

// end counts one less.
func (u *underway) end() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.n--; u.n == 0 && u.idle != nil {
		close(u.idle)
		u.idle = nil
	}
}

// Go runs do in a goroutine that counts; false once nothing is to begin.
func (u *underway) Go(do func()) bool {
	if !u.begin() {
		return false
	}
	go func() {
		defer u.end()
		do()
	}()
	return true
}

// stop lets nothing begin any more.
func (u *underway) stop() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.stopped = true
}

// wait waits until nothing is left.
func (u *underway) wait() {
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

// count is how many there are.
func (u *underway) count() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.n
}
