package sandbox

import (
	"bufio"
	"bytes"
	"container/list"
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
	// What a child keeps compiled. The cache lies in the same memory as the scripts'.
	maxPrograms     = 512
	maxProgramBytes = 2 << 20 // of source, code and map

	maxAnswer   = 1 << 20 // bytes of an answer besides its body: errors, console, program
	stderrBytes = 8 << 10
)

// process is one child, seen from the router. The pool's mutex guards what is from
// ready to killedID; each of the two goroutines has its own end of the pipes.
type process struct {
	pool   *Pool
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout io.ReadCloser
	stderr *prefixWriter
	shared *shared
	wake   chan struct{} // capacity 1: there is something pending
	gone   chan struct{} // closed when the process has ended

	isolated  bool // has namespaces of its own
	ready     bool
	slow      bool            // its run takes long, or it owes: others should not have to wait
	running   map[uint64]*job // given to the child and not answered
	load      time.Duration   // what these are expected to take
	reclaimed map[uint64]*job // taken back after they were written; the child has yet to answer them
	pending   []*job          // of those, not yet written
	killed    *scripts.Error  // why the pool killed it, and for which job
	killedID  uint64

	// of the writer
	programs     map[string]*list.Element // by hash
	recent       list.List                // of *sent, the latest first
	programBytes int
	nextProgram  uint64

	// of the watcher
	seenJob   uint64
	seenSince time.Time
}

// sent is a program that the child has.
type sent struct {
	hash   string
	number uint64
	bytes  int
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
		programs:  make(map[string]*list.Element),
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

// write sends what is pending, as much at once as there is.
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
			return // the reader meets the end, too
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
	b, number := c.know(b, j.program)
	start := len(b)
	b = binary.AppendUvarint(openFrame(b, kindRun), j.id)
	b = binary.AppendUvarint(b, number)
	return closeFrame(append(b, j.frame...), start)
}

// know gives the child's number for a program, and sends it first if it does not have it.
func (c *process) know(b []byte, p *scripts.Program) ([]byte, uint64) {
	if e := c.programs[p.Hash]; e != nil {
		c.recent.MoveToFront(e)
		return b, e.Value.(*sent).number
	}
	size := len(p.Source) + len(p.Code) + len(p.Map)
	for c.recent.Len() > 0 && (c.recent.Len() >= maxPrograms || c.programBytes+size > maxProgramBytes) {
		old := c.recent.Remove(c.recent.Back()).(*sent)
		delete(c.programs, old.hash)
		c.programBytes -= old.bytes
		start := len(b)
		b = closeFrame(binary.AppendUvarint(openFrame(b, kindForget), old.number), start)
	}
	c.nextProgram++
	c.programs[p.Hash] = c.recent.PushFront(&sent{p.Hash, c.nextProgram, size})
	c.programBytes += size
	start := len(b)
	b = binary.AppendUvarint(openFrame(b, kindProgram), c.nextProgram)
	return closeFrame(appendProgram(b, p), start), c.nextProgram
}

// read takes answers until the child ends, then sees to what it leaves behind.
func (c *process) read() {
	err := c.answers()
	if !errors.Is(err, io.EOF) {
		// It may live on and talk nonsense; nothing it says is believed any more.
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
		if len(out.result.Body) > c.pool.cfg.Limits.Result {
			return errMalformed
		}
	case kindCompiled:
		out.program = f.program()
	case kindSkipped:
		if f.bad {
			return errMalformed
		}
		return c.pool.skipped(c, id)
	case kindError:
		e := &scripts.Error{CPU: time.Duration(f.number())}
		if err := json.Unmarshal(f.b, e); err != nil {
			return errMalformed
		}
		out.err = e
	default:
		return errMalformed
	}
	if f.bad {
		return errMalformed
	}
	c.pool.answered(c, id, out)
	return nil
}

// exitReason says why the child ended and whose fault it was; id is 0 when it was nobody's.
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
		// By the kernel, which looked for memory in the whole machine or group, or by somebody
		// else. The run that was on is tried again, as the others are.
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

// startFailure explains why a child ended before it ran any script: no script has used up
// its memory.
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

// prefixWriter keeps the first bytes of what a child says on its way down: Go names the reason
// before the stack.
type prefixWriter struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write keeps what there is room for and takes all.
func (h *prefixWriter) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.b.Write(p[:min(len(p), stderrBytes-h.b.Len())])
	return len(p), nil
}

// String gives what was kept.
func (h *prefixWriter) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.b.String()
}
