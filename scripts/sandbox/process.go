package sandbox

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"switchhook/scripts"
)

const (
	// The limit of a child's cache of compiled programs. It uses the same memory as the scripts.
	maxProgramBytes = 2 << 20 // of source, code and map
	programOverhead = 4 << 10 // added to these for each program

	maxAnswer   = 1 << 20 // bytes of an answer besides its body: errors, console, program
	stderrBytes = 8 << 10
)

// process is the parent's handle of one child. The pool's mutex guards the fields from
// ready to killedID; each of the two goroutines owns its end of the pipes.
type process struct {
	pool   *Pool
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout io.ReadCloser
	stderr *prefixWriter
	shared *shared
	wake   chan struct{} // capacity 1: there is something pending
	gone   chan struct{} // closed when the process has ended

	isolated  bool // has its own namespaces
	ready     bool
	slow      bool            // its run takes long, or it has unanswered reclaimed jobs: it gets no others
	running   map[uint64]*job // assigned to the child and not answered
	load      time.Duration   // expected CPU time of these
	reclaimed map[uint64]*job // reclaimed after they were written; the child has yet to answer them
	pending   []*job          // of running, not yet written
	killed    *scripts.Error  // why the pool killed it, and for which job
	killedID  uint64

	// of the writer
	cache       programCache
	nextProgram uint64

	// of the watcher
	seenJob   uint64
	seenSince time.Time
}

// start starts a child. It must be called on the pool's spawning thread.
func (p *Pool) start(isolated bool) (*process, error) {
	path, err := executable()
	if err != nil {
		return nil, err
	}
	settings, err := json.Marshal(p.cfg.Limits)
	if err != nil {
		return nil, err
	}
	page, err := sharedFile()
	if err != nil {
		return nil, err
	}
	defer page.Close()
	c := &process{
		pool:      p,
		isolated:  isolated,
		stderr:    &prefixWriter{},
		wake:      make(chan struct{}, 1),
		gone:      make(chan struct{}),
		running:   make(map[uint64]*job),
		reclaimed: make(map[uint64]*job),
	}
	if c.shared, err = mapShared(page); err != nil {
		return nil, err
	}
	c.cmd = &exec.Cmd{
		Path: path,
		Args: []string{"switchhook-sandbox"},
		Env: []string{
			childVariable + "=" + string(settings),
			"GOMAXPROCS=1", "TZ=UTC", "GOTRACEBACK=single",
		},
		Dir:         "/",
		ExtraFiles:  []*os.File{page},
		Stderr:      c.stderr,
		SysProcAttr: attributes(isolated),
	}
	if isolated {
		c.cmd.Env = append(c.cmd.Env, namespaceVariable+"=1")
	}
	if c.stdin, err = c.cmd.StdinPipe(); err == nil {
		if c.stdout, err = c.cmd.StdoutPipe(); err == nil {
			err = c.cmd.Start()
		}
	}
	if err != nil {
		c.shared.close()
		return nil, fmt.Errorf("start a sandbox process: %w", err)
	}
	return c, nil
}

// write sends the pending jobs, all available ones at once.
func (c *process) write() {
	var batch []byte
	for {
		select {
		case <-c.wake:
		case <-c.gone:
			return
		}
		c.pool.mu.Lock()
		jobs := c.pending
		c.pending = nil
		c.pool.mu.Unlock()
		batch = batch[:0]
		for _, j := range jobs {
			batch = c.appendJob(batch, j)
		}
		if _, err := c.stdin.Write(batch); err != nil {
			return // the reader gets the end of file, too
		}
		if cap(batch) > 4<<20 {
			batch = nil
		}
	}
}

func (c *process) appendJob(b []byte, j *job) []byte {
	if j.program == nil {
		start := len(b)
		b = binary.AppendUvarint(openFrame(b, kindCompile), j.id)
		return closeFrame(append(b, j.frame...), start)
	}
	b, number := c.programNumber(b, j)
	start := len(b)
	b = binary.AppendUvarint(openFrame(b, kindRun), j.id)
	b = binary.AppendUvarint(b, number)
	return closeFrame(append(b, j.frame...), start)
}

// programNumber returns the child's number for the program of a job, which it sends first if the child
// does not have it.
func (c *process) programNumber(b []byte, j *job) ([]byte, uint64) {
	if number, ok := c.cache.use(j.program.Hash); ok {
		return b, number
	}
	c.nextProgram++
	for _, old := range c.cache.add(j.account, j.program, c.nextProgram) {
		start := len(b)
		b = closeFrame(binary.AppendUvarint(openFrame(b, kindForget), old), start)
	}
	start := len(b)
	b = binary.AppendUvarint(openFrame(b, kindProgram), c.nextProgram)
	return closeFrame(appendProgram(b, j.program), start), c.nextProgram
}

// read handles answers until the child ends, then handles its exit.
func (c *process) read() {
	err := c.answers()
	if !errors.Is(err, io.EOF) {
		// The child may still run and send garbage; no further answer is accepted.
		_ = c.cmd.Process.Kill()
	}
	_, _ = io.Copy(io.Discard, c.stdout) // Wait must not close the pipe under a reader
	_ = c.cmd.Wait()
	_ = c.stdin.Close()
	close(c.gone)
	c.pool.onExit(c, err)
	c.shared.close()
}

func (c *process) answers() error {
	in := bufio.NewReaderSize(c.stdout, 64<<10)
	var header [frameHeader]byte
	var frame []byte
	limit := c.pool.cfg.Limits.Result + c.pool.cfg.Limits.ConsoleBytes + 24*c.pool.cfg.Limits.Source + maxAnswer
	for {
		if _, err := io.ReadFull(in, header[:]); err != nil {
			return err
		}
		n := int(binary.LittleEndian.Uint32(header[:]))
		if n == 0 || n > limit {
			return errMalformed
		}
		if cap(frame) < n {
			frame = make([]byte, n)
		}
		frame = frame[:n]
		if _, err := io.ReadFull(in, frame); err != nil {
			return io.EOF
		}
		if err := c.answer(frame[0], &fields{b: frame[1:]}); err != nil {
			return err
		}
		if cap(frame) > 1<<20 {
			frame = nil
		}
	}
}

func (c *process) answer(kind byte, f *fields) error {
	if kind == kindHello {
		var p Protections
		if err := json.Unmarshal(f.b, &p); err != nil {
			return errMalformed
		}
		return c.pool.onReady(c, p)
	}
	id := f.number()
	var out outcome
	switch kind {
	case kindResult:
		out.result = f.result()
		out.cpu = out.result.CPU
		if len(out.result.Body) > c.pool.cfg.Limits.Result {
			return errMalformed
		}
	case kindCompiled:
		out.cpu, out.program = time.Duration(f.number()), f.program()
	case kindSkipped:
		if f.bad {
			return errMalformed
		}
		return c.pool.onSkipped(c, id)
	case kindError:
		e := &scripts.Error{CPU: time.Duration(f.number())}
		if err := json.Unmarshal(f.b, e); err != nil {
			return errMalformed
		}
		out.err, out.cpu = e, e.CPU
	default:
		return errMalformed
	}
	if f.bad {
		return errMalformed
	}
	c.pool.onAnswer(c, id, out)
	return nil
}

// exitReason returns why the child ended and the id of the job that caused it, 0 if none did.
func (c *process) exitReason(readErr error) (id uint64, e *scripts.Error) {
	if c.killed != nil {
		return c.killedID, c.killed
	}
	id, _ = c.shared.now()
	limits := c.pool.cfg.Limits
	said := c.stderr.String()
	for _, sign := range []string{"out of memory", "cannot allocate memory", "failed to create new OS thread", "pthread_create failed", "failed to allocate"} {
		if strings.Contains(said, sign) {
			return id, limits.MemoryError()
		}
	}
	if said == "" && !errors.Is(readErr, errMalformed) && killed(c.cmd.ProcessState) {
		// Killed by the kernel, which needed memory for the whole machine or cgroup, or by another
		// process. The current run is retried, as the others are.
		return 0, &scripts.Error{Phase: scripts.PhaseCrash, Message: "crashed: the process was killed from outside, as for want of memory"}
	}
	why := firstLine(said)
	switch {
	case strings.Contains(said, "stack exceeds") || strings.Contains(said, "stack overflow"):
		why = "stack overflow"
	case errors.Is(readErr, errMalformed):
		why = "the process gave a malformed answer"
	case why == "":
		why = c.cmd.ProcessState.String()
	}
	return id, &scripts.Error{Phase: scripts.PhaseCrash, Message: "crashed: " + why}
}

// startFailure returns why a child ended before it ran any script: no script can have used
// up its memory.
func startFailure(why *scripts.Error, said string) *scripts.Error {
	if !strings.Contains(said, "pthread_create failed") && !strings.Contains(said, "failed to create new OS thread") {
		return why
	}
	return &scripts.Error{Phase: scripts.PhaseCrash, Message: "no thread could be started: the user's limit of processes (ulimit -u), the container's (pids limit), or memory is used up"}
}

// killed reports whether SIGKILL ended a process.
func killed(s *os.ProcessState) bool {
	status, ok := s.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGKILL
}

func firstLine(s string) string {
	for line := range strings.Lines(s) {
		line = strings.TrimSpace(line)
		if text, ok := strings.CutPrefix(line, "fatal error: "); ok {
			return text
		}
		if strings.HasPrefix(line, "panic: ") || strings.HasPrefix(line, "sandbox child: ") || strings.HasPrefix(line, "SIG") {
			return line
		}
	}
	s, _, _ = strings.Cut(strings.TrimSpace(s), "\n")
	return s[:min(len(s), 200)]
}

// prefixWriter keeps the first bytes of a crashing child's output: Go prints the reason before
// the stack.
type prefixWriter struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write keeps the bytes that fit and discards the rest.
func (h *prefixWriter) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.b.Write(p[:min(len(p), stderrBytes-h.b.Len())])
	return len(p), nil
}

// String returns the bytes that were kept.
func (h *prefixWriter) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.b.String()
}
