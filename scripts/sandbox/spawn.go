package sandbox

import (
	"errors"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// spawnLoop starts the children. It stays on one thread that lives as long as the pool:
// the kernel kills a child when the thread that started it ends.
func (p *Pool) spawnLoop() {
	defer p.wg.Done()
	runtime.LockOSThread() // never unlocked: the thread ends with this goroutine
	var children sync.WaitGroup
	defer children.Wait()
	for {
		select {
		case <-p.refill:
		case <-p.closing:
			return
		}
		for p.needsProcess() {
			p.mu.Lock()
			isolated, proven, failures := p.isolated, p.proven, p.failures
			p.mu.Unlock()
			if failures > 0 && !p.pause(min(time.Duration(failures)*spawnPause, 5*time.Second)) {
				return
			}
			c, err := p.start(isolated)
			switch {
			case err != nil && isolated && !proven && !isResourceShortage(err):
				p.mu.Lock()
				p.isolated = false // not allowed on this machine; the other protections remain
				p.mu.Unlock()
				continue
			case err != nil:
				p.mu.Lock()
				p.onStartFailure(err)
				p.mu.Unlock()
				if failures%logEvery == 0 {
					p.log.Error("sandbox process not started", "error", err)
				}
				p.firstOnce.Do(func() { p.first <- err })
				continue
			}
			p.mu.Lock()
			p.all[c] = struct{}{}
			p.started++
			if p.isClosed {
				_ = c.cmd.Process.Kill()
			}
			p.mu.Unlock()
			children.Add(2)
			go func() { defer children.Done(); c.write() }()
			go func() { defer children.Done(); c.read() }()
		}
	}
}

// logEvery is the number of consecutive start failures between two log messages: with the
// pauses between them, about a minute.
const logEvery = 12

// isResourceShortage reports whether a child was not started for lack of a resource that may
// become available again.
func isResourceShortage(err error) bool {
	for _, number := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.EAGAIN} {
		if errors.Is(err, number) {
			return true
		}
	}
	return false
}

func (p *Pool) needsProcess() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.isClosed && len(p.all) < p.targetSize
}

// pause waits for d and reports whether the pool is still open.
func (p *Pool) pause(d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-p.closing:
		return false
	}
}
