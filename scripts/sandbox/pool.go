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
	window      = 32               // jobs a child has at most
	maxDeaths   = 4                // children that may die under a job that is not known to be the cause
	startWithin = 15 * time.Second // for the first child
	spawnPause  = 200 * time.Millisecond
)

// Config is what a Pool is made with. The zero value is good.
type Config struct {
	Processes int            // child processes, one of them in reserve; 0 means GOMAXPROCS + 1
	Limits    scripts.Limits // of a run; the zero value means scripts.DefaultLimits
	Logger    *slog.Logger   // nil means slog.Default
}

// Pool runs transforms in child processes. It may be used by many goroutines.
type Pool struct {
	cfg Config
	log *slog.Logger

	closing chan struct{} // closed by Close
	busy    chan struct{} // capacity 1: there may be work to watch
	refill  chan struct{} // capacity 1: there may be too few children
	wg      sync.WaitGroup

	first     chan error // capacity 1: what became of the first child
	firstOnce sync.Once

	mu          sync.Mutex
	active      []*process            // take jobs
	spare       *process              // waits to take the place of one that dies; nil where there is none
	all         map[*process]struct{} // every child that lives
	queue       fairQueue             // nobody has room for them
	estimates   map[string]*estimate  // by program's hash
	wanted      int                   // children: one until there is a first job, then as many as configured
	nextJob     uint64
	isClosed    bool
	isolated    bool // children get namespaces of their own
	failures    int  // children in a row that ended before they were ready
	started     int64
	ended       map[string]int64 // by reason, see Stats
	protections Protections
}

// job is one run or compilation on its way.
type job struct {
	id      uint64
	program *scripts.Program // nil: compile
	frame   []byte           // the fields after job and program
	done    chan outcome     // capacity 1: the first outcome counts

	estimate  *estimate     // of the program; nil for a compilation
	cost      time.Duration // what it was expected to take when a child got it
	deaths    int           // children that died while they had it
	abandoned bool          // nobody waits for it any more
}

type outcome struct {
	result  scripts.Result
	program *scripts.Program
	err     *scripts.Error
}

// Start starts the children, waits for the first one and says in the log what protects
// the machine from scripts.
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
		cfg:       cfg,
		log:       cfg.Logger,
		closing:   make(chan struct{}),
		busy:      make(chan struct{}, 1),
		refill:    make(chan struct{}, 1),
		first:     make(chan error, 1),
		all:       make(map[*process]struct{}),
		estimates: make(map[string]*estimate),
		ended:     make(map[string]int64),
		isolated:  true,
		wanted:    1, // enough to tell what protects; a router without scripts needs no more
	}
	p.wg.Add(2)
	go p.spawnLoop()
	go p.watchLoop()
	signal(p.refill)
	var err error
	select {
	case err = <-p.first:
	case <-time.After(startWithin):
		err = fmt.Errorf("the first sandbox process is not ready after %s", startWithin)
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

// Protections says what is in force in the children.
func (p *Pool) Protections() Protections {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.protections
}

// Run runs a transform. The event is not changed. The error is a *scripts.Error; its
// phase is PhaseBusy when ctx ended or the pool was closed before the run was through.
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

// Compile compiles a source, in a child. The error is a *scripts.Error.
func (p *Pool) Compile(ctx context.Context, source string) (*scripts.Program, error) {
	if err := transform.Check(source, p.cfg.Limits); err != nil {
		return nil, err
	}
	out := p.do(ctx, &job{frame: appendText(nil, source)})
	if out.err != nil {
		return nil, out.err
	}
	// A child that lies may not plant another program under this source's name.
	if out.program == nil || out.program.Hash != transform.Hash(source) || out.program.Source != source {
		return nil, &scripts.Error{Phase: scripts.PhaseCrash, Message: "crashed: the process gave a malformed answer"}
	}
	return out.program, nil
}

func (p *Pool) do(ctx context.Context, j *job) outcome {
	j.done = make(chan outcome, 1)
	p.mu.Lock()
	if p.isClosed {
		p.mu.Unlock()
		return busy("the sandbox is closed")
	}
	p.nextJob++
	j.id = p.nextJob
	if p.wanted < p.cfg.Processes {
		p.wanted = p.cfg.Processes
		signal(p.refill)
	}
	if j.program != nil {
		j.estimate = p.estimateOf(j.program.Hash)
	}
	p.queue.push(j)
	p.handOut()
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

// finish gives the outcome to whoever waits. p.mu is held.
func (j *job) finish(out outcome) {
	j.abandoned = true
	select {
	case j.done <- out:
	default: // it was taken back, run twice, and this is the second answer
	}
}

// handOut gives queued jobs to the children that have the least to do, but not so many
// that one would wait long behind the others. p.mu is held.
func (p *Pool) handOut() {
	for p.queue.count > 0 {
		turn := p.queue.first()
		j := turn.jobs[0]
		if j.abandoned {
			p.queue.take(turn, 0)
			continue
		}
		var least *process
		for _, c := range p.active {
			if c.killed == nil && !c.slow && len(c.running) < window && (least == nil || c.load < least.load) {
				least = c
			}
		}
		if least == nil {
			return
		}
		cost := j.estimate.cost()
		if len(least.running) > 0 && least.load+cost > ahead {
			return
		}
		p.queue.take(turn, cost)
		j.cost = cost
		least.load += cost
		if len(least.running) == 0 {
			least.seenSince = time.Time{}
			signal(p.busy)
		}
		least.running[j.id] = j
		least.pending = append(least.pending, j)
		signal(least.wake)
	}
}

// answered delivers a child's answer.
func (p *Pool) answered(c *process, id uint64, out outcome) {
	p.mu.Lock()
	defer p.mu.Unlock()
	j := c.running[id]
	if j == nil {
		j = c.owed[id] // taken back, but the child was already at it: as good an answer
	}
	if j != nil {
		took := out.result.CPU
		if out.err != nil {
			took = out.err.CPU
		}
		j.estimate.learn(took, p.cfg.Limits.Hard)
		j.finish(out)
	}
	p.settle(c, id)
}

// skipped notes that a child has not run a job that was taken back.
func (p *Pool) skipped(c *process, id uint64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.running[id] != nil {
		return errMalformed // nobody told it to
	}
	p.settle(c, id)
	return nil
}

// settle strikes a job off a child's books, and gives the child more if it may have more:
// not while it has to work off jobs that were taken back. p.mu is held.
func (p *Pool) settle(c *process, id uint64) {
	if j := c.running[id]; j != nil {
		delete(c.running, id)
		c.load -= j.cost
	}
	if _, ok := c.owed[id]; ok {
		delete(c.owed, id)
		if len(c.owed) == 0 {
			c.shared.skip(nil) // the same job may come again
		}
	}
	if len(c.owed) == 0 {
		c.slow = false
	}
	if p.queue.count > 0 {
		p.handOut()
	}
}

// arrived takes a child that is ready.
func (p *Pool) arrived(c *process, protections Protections) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.ready {
		return errMalformed
	}
	c.ready = true
	p.failures = 0
	p.protections = protections
	if p.spare == nil && len(p.active) >= max(1, p.cfg.Processes-1) {
		p.spare = c
	} else {
		p.active = append(p.active, c)
		p.handOut()
	}
	p.firstOnce.Do(func() { p.first <- nil })
	return nil
}

// lost sees to the jobs of a child that has ended: the one that was on fails, the others
// are run elsewhere. The spare takes its place.
func (p *Pool) lost(c *process, readErr error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	id, why := c.verdict(readErr)
	delete(p.all, c)
	if p.spare == c {
		p.spare = nil
	}
	for i := range p.active {
		if p.active[i] == c {
			p.active = append(p.active[:i:i], p.active[i+1:]...)
			break
		}
	}
	if p.isClosed {
		p.failAll(c.running)
		return
	}
	if !c.ready {
		p.failures++
		p.log.Error("sandbox process ended before it was ready", "reason", why.Message, "stderr", c.stderr.String())
		if p.isolated {
			p.isolated = false // perhaps it is the namespaces
		} else {
			p.firstOnce.Do(func() { p.first <- errors.New("sandbox process: " + why.Message) })
		}
	} else if p.spare != nil {
		p.active, p.spare = append(p.active, p.spare), nil
	}
	signal(p.refill)
	retired := c.killed == nil && c.cmd.ProcessState.Success()
	p.ended[c.endedFor(retired, why)]++
	var again []*job
	for _, j := range c.running {
		if !retired {
			j.deaths++
		}
		switch {
		case !retired && (j.id == id || j.deaths > maxDeaths):
			if j.id == id {
				j.estimate.learn(why.CPU, p.cfg.Limits.Hard)
			}
			j.finish(outcome{err: why})
		default:
			again = append(again, j)
		}
	}
	if j := c.running[id]; j != nil {
		p.log.Warn("sandbox process ended by a script", "reason", why.Message, "phase", string(why.Phase))
	} else if c.ready && !retired {
		p.log.Warn("sandbox process ended", "reason", why.Message, "stderr", c.stderr.String())
	}
	c.running = nil
	p.queue.pushFront(again)
	p.handOut()
}

func (p *Pool) failAll(jobs map[uint64]*job) {
	for id, j := range jobs {
		j.finish(busy("the sandbox is closing"))
		delete(jobs, id)
	}
}

// Close ends all children and waits until they are gone. Runs that are on or wait end
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

// signal sends on a channel of capacity 1, where one signal is as good as many.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
