package engine

// InFlight is how many attempts are on.
func (e *Engine) InFlight() (n int) {
	e.scheduler.mu.Lock()
	defer e.scheduler.mu.Unlock()
	for _, of := range e.scheduler.flying {
		n += of
	}
	return n
}
