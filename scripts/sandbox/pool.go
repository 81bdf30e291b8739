package sandbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"time"

	"switchhook/scripts"
	"switchhook/scripts/transform"
)

const (
	startTimeout = 15 * time.Second // for the first child
	spawnPause   = 200 * time.Millisecond
)

// Config configures a Pool. The zero value is valid.
type Config struct {
	Processes int            // child processes, including one spare; 0 means GOMAXPROCS + 1
	Limits    scripts.Limits // of a run; the zero value means scripts.DefaultLimits
	Logger    *slog.Logger   // nil means slog.Default
}

// Pool runs transforms in child processes. It is safe for concurrent use.
type Pool struct {
	cfg Config
	log *slog.Logger

	closing chan struct{} // closed by Close
	busy    chan struct{} // capacity 1: there may be work to watch
	refill  chan struct{} // capacity 1: there may be too few children
	wg      sync.WaitGroup

	first     chan error // capacity 1: the result of starting the first child
	firstOnce sync.Once

	mu          sync.Mutex
	active      []*process            // receive jobs
	spare       *process              // replaces a child that dies; nil if there is none
	all         map[*process]struct{} // every running child
	queue       fairQueue             // jobs that no child has room for
	estimates   map[string]*estimate  // by program's hash
	targetSize  int                   // number of children: one until the first job, then as many as configured
	nextJob     uint64
	isClosed    bool
	isolated    bool  // children get their own namespaces
	proven      bool  // a child with namespaces was ready: the platform allows them
	failures    int   // consecutive children that did not start, or ended before they were ready
	startErr    error // error of the last of them; nil after a child was ready
	started     int64
	ended       map[string]int64 // by reason, see Stats
	protections Protections
}

// Start starts the children, waits for the first one and logs the protections in force.
func Start(cfg Config) (*Pool, error) {
	if cfg.Processes <= 0 {
		cfg.Processes = runtime.GOMAXPROCS(0) + 1
	}
	if cfg.Limits == (scripts.Limits{}) {
		cfg.Limits = scripts.DefaultLimits()
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	p := &Pool{
		cfg:        cfg,
		log:        cfg.Logger,
		closing:    make(chan struct{}),
		busy:       make(chan struct{}, 1),
		refill:     make(chan struct{}, 1),
		first:      make(chan error, 1),
		all:        make(map[*process]struct{}),
		estimates:  make(map[string]*estimate),
		ended:      make(map[string]int64),
		isolated:   true,
		targetSize: 1, // enough to find the protections; a router without scripts needs no more
	}
	p.wg.Add(2)
	go p.spawnLoop()
	go p.watchLoop()
	signal(p.refill)
	var err error
	select {
	case err = <-p.first:
	case <-time.After(startTimeout):
		err = fmt.Errorf("the first sandbox process is not ready after %s", startTimeout)
	}
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
	protections := p.Protections()
	p.log.Info("sandbox ready", "processes", cfg.Processes, "in_force", protections.String(), "memory_limit_bytes", cfg.Limits.Memory)
	if missing := protections.Missing(); len(missing) > 0 {
		p.log.Warn("sandbox is weaker than it should be: a script could do more than it may",
			"missing", strings.Join(missing, ", "), "problems", strings.Join(protections.Problems, "; "))
	}
	return p, nil
}

// Protections returns the protections in force in the children.
func (p *Pool) Protections() Protections {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.protections
}

// Run runs a transform, on the account of scripts.ForAccount. The event is not changed. The error is a *scripts.Error; its
// phase is PhaseBusy if ctx ended or the pool was closed before the run ended.
func (p *Pool) Run(ctx context.Context, prog *scripts.Program, ev *scripts.Event, req scripts.Request) (scripts.Result, error) {
	frame := make([]byte, 0, 256+len(ev.Data))
	frame = appendRequest(appendEvent(frame, ev), &req)
	if len(frame) > maxFrame-64 {
		return scripts.Result{}, &scripts.Error{Phase: scripts.PhaseRun, Message: "the event is too large for a transform"}
	}
	out := p.do(ctx, &job{program: prog, frame: frame})
	if out.err != nil {
		return scripts.Result{}, out.err
	}
	return out.result, nil
}

// Compile compiles a source, in a child, on the account of scripts.ForAccount. The error is a *scripts.Error.
func (p *Pool) Compile(ctx context.Context, source string) (*scripts.Program, error) {
	if err := transform.Check(source, p.cfg.Limits); err != nil {
		return nil, err
	}
	out := p.do(ctx, &job{frame: appendText(nil, source)})
	if out.err != nil {
		return nil, out.err
	}
	// A compromised child must not be able to return another program for this source.
	if out.program == nil || out.program.Hash != transform.Hash(source) || out.program.Source != source {
		return nil, &scripts.Error{Phase: scripts.PhaseCrash, Message: "crashed: the process gave a malformed answer"}
	}
	out.program.Source = source // not another copy of it
	return out.program, nil
}

func (p *Pool) do(ctx context.Context, j *job) outcome {
	j.account, j.done = scripts.AccountOf(ctx), make(chan outcome, 1)
	p.mu.Lock()
	if p.isClosed {
		p.mu.Unlock()
		return busy("the sandbox is closed")
	}
	p.nextJob++
	j.id = p.nextJob
	if p.targetSize < p.cfg.Processes {
		p.targetSize = p.cfg.Processes
		signal(p.refill)
	}
	if p.startErr != nil && len(p.active) == 0 {
		defer p.mu.Unlock()
		return shortageOutcome(p.startErr)
	}
	if j.program != nil {
		j.estimate = p.estimateOf(j.program.Hash)
	}
	p.queue.push(j)
	p.dispatch()
	p.mu.Unlock()
	select {
	case out := <-j.done:
		return out
	case <-ctx.Done():
	}
	p.mu.Lock()
	j.abandoned = true
	p.queue.remove(j)
	p.mu.Unlock()
	return busy("not run in time: " + ctx.Err().Error())
}

func busy(why string) outcome {
	return outcome{err: &scripts.Error{Phase: scripts.PhaseBusy, Message: why}}
}

// shortageOutcome returns the outcome of a job for which no process can be started.
func shortageOutcome(cause error) outcome {
	return outcome{err: &scripts.Error{Phase: scripts.PhaseBusy, Message: "no sandbox process can be started", Cause: cause}}
}

// onStartFailure records that a child could not be started. If there is none left, it fails
// the queued jobs, since a restart may take long. p.mu must be held.
func (p *Pool) onStartFailure(cause error) {
	p.failures++
	p.startErr = cause
	if len(p.active) > 0 {
		return
	}
	for _, j := range p.queue.drain() {
		j.finish(shortageOutcome(cause))
	}
}

func (p *Pool) failAll(jobs map[uint64]*job) {
	for id, j := range jobs {
		j.finish(busy("the sandbox is closing"))
		delete(jobs, id)
	}
}

// Close ends all children and waits until they have exited. Running and queued jobs fail
// with PhaseBusy.
func (p *Pool) Close() error {
	p.mu.Lock()
	if !p.isClosed {
		p.isClosed = true
		close(p.closing)
		for _, j := range p.queue.drain() {
			j.finish(busy("the sandbox is closing"))
		}
		for c := range p.all {
			p.failAll(c.running)
			_ = c.cmd.Process.Kill()
		}
	}
	p.mu.Unlock()
	p.wg.Wait()
	return nil
}

// signal sends on a channel of capacity 1 without blocking; signals coalesce.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
