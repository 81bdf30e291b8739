package sandbox

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"time"

	"switchhook/scripts"
	"switchhook/scripts/transform"
)

// childVariable marks a process as a child. Its value is the limits, as JSON.
const childVariable = "SWITCHHOOK_SANDBOX_CHILD"

// namespaceVariable tells a child that it was started in its own network namespace.
const namespaceVariable = "SWITCHHOOK_SANDBOX_NAMESPACE"

const (
	maxStackBytes  = 16 << 20 // a Go stack that grows beyond it ends the child
	maxFrame       = 256 << 20
	flushBytes     = 64 << 10             // answers are written when they reach this size
	watchEvery     = 5 * time.Millisecond // how long an answer waits to be written with the next one
	compileAllowed = 4                    // factor by which compiling may take longer than a run
)

// RunIfChild serves scripts and never returns if this process was started as a sandbox
// child. It must be the first call of main, and of TestMain in packages whose tests start a Pool.
func RunIfChild() {
	settings, ok := os.LookupEnv(childVariable)
	if !ok {
		return
	}
	var limits scripts.Limits
	if err := json.Unmarshal([]byte(settings), &limits); err != nil {
		fmt.Fprintln(os.Stderr, "sandbox child:", err)
		os.Exit(2)
	}
	if err := serve(limits); err != nil && !errors.Is(err, io.EOF) {
		fmt.Fprintln(os.Stderr, "sandbox child:", err)
		os.Exit(2)
	}
	os.Exit(0)
}

// server is the main loop of a child: it reads, runs and answers. It needs no separate
// goroutine for reading, since the parent always reads while it writes.
type server struct {
	limits   scripts.Limits
	shared   *shared
	programs map[uint64]*program
	watch    watchdog
	cpu      time.Duration // of this process, when the last job ended
	base     int64         // bytes the Go runtime had mapped before the first job
	memory   int64         // bytes allocated in all, when the last job ended
	retiring bool          // this process has grown too much: the next job must run in a new one

	mu  sync.Mutex // guards out: the watchdog writes it too when a run takes long
	out []byte
}

// program is a program that the parent has sent. The first run that needs it loads it, so
// that the cost of loading is charged to that run.
type program struct {
	source *scripts.Program // nil after loading
	loaded *transform.Loaded
}

func (p *program) load() (*transform.Loaded, error) {
	if p.loaded == nil {
		l, err := transform.Load(p.source)
		if err != nil {
			return nil, err
		}
		p.loaded, p.source = l, nil
	}
	return p.loaded, nil
}

func serve(limits scripts.Limits) error {
	time.Local = time.UTC
	page := os.NewFile(3, "shared")
	if page == nil {
		return errors.New("no shared memory")
	}
	mapped, err := mapShared(page)
	if err != nil {
		return err
	}
	_ = page.Close()
	debug.SetMaxStack(maxStackBytes)
	if err := warmUp(limits); err != nil {
		return err
	}
	s := &server{limits: limits, shared: mapped, programs: make(map[uint64]*program), base: mappedMemory(), memory: allocatedMemory()}
	s.watch = watchdog{server: s}
	s.watch.timer = time.AfterFunc(time.Hour, s.watch.check)
	protections := harden(limits)
	hello, err := json.Marshal(protections)
	if err != nil {
		return err
	}
	s.out = closeFrame(append(openFrame(s.out, kindHello), hello...), 0)
	s.cpu = processCPU()
	return s.loop()
}

// loop handles all complete frames, and writes the answers before it waits for more.
func (s *server) loop() error {
	in := make([]byte, 0, 128<<10)
	start := 0
	for {
		for {
			rest := in[start:]
			if len(rest) < frameHeader {
				break
			}
			n := int(binary.LittleEndian.Uint32(rest))
			if n == 0 || n > maxFrame {
				return errMalformed
			}
			if len(rest) < frameHeader+n {
				break
			}
			if err := s.handle(rest[frameHeader], rest[frameHeader+1:frameHeader+n]); err != nil {
				return err
			}
			start += frameHeader + n
			if s.retiring { // the parent gives the remaining jobs to another process
				return s.flush()
			}
		}
		s.watch.idle()
		if err := s.flush(); err != nil {
			return err
		}
		if start > 0 {
			in, start = in[:copy(in, in[start:])], 0
		}
		if len(in) == cap(in) {
			in = append(in, make([]byte, cap(in))...)[:len(in)]
		}
		n, err := os.Stdin.Read(in[len(in):cap(in)])
		if err != nil {
			return err
		}
		in = in[:len(in)+n]
	}
}

func (s *server) flush() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.out) == 0 {
		return nil
	}
	_, err := os.Stdout.Write(s.out)
	s.out = s.out[:0]
	return err
}

func (s *server) handle(kind byte, payload []byte) error {
	f := &fields{b: payload}
	switch kind {
	case kindProgram:
		number := f.number()
		p := f.program()
		if f.bad {
			return errMalformed
		}
		s.programs[number] = &program{source: p}
	case kindForget:
		delete(s.programs, f.number())
	case kindRun:
		return s.run(f)
	case kindCompile:
		return s.compile(f)
	default:
		return errMalformed
	}
	return nil
}

func (s *server) run(f *fields) error {
	job, number := f.number(), f.number()
	if s.shared.skips(job) {
		return s.answer(job, 0, nil, kindSkipped, emptyResult)
	}
	s.shared.begin(job, s.cpu)
	ev, req := f.event(), f.request()
	p := s.programs[number]
	if f.bad || p == nil {
		return errMalformed
	}
	s.watch.begin(s.cpu, s.limits.Soft)
	var res scripts.Result
	l, err := p.load()
	if err == nil {
		res, err = l.Run(ev, req, s.limits, s.watch.interruptible)
	}
	res.CPU, res.Memory = s.accountJob()
	return s.answer(job, res.CPU, err, kindResult, func(b []byte) []byte { return appendResult(b, &res) })
}

func (s *server) compile(f *fields) error {
	job, source := f.number(), f.text()
	if f.bad {
		return errMalformed
	}
	if s.shared.skips(job) {
		return s.answer(job, 0, nil, kindSkipped, emptyResult)
	}
	s.shared.begin(job, s.cpu)
	limits := s.limits
	limits.Soft *= compileAllowed
	s.watch.begin(s.cpu, limits.Soft)
	p, err := transform.Compile(source, limits, s.watch.interruptible)
	took, _ := s.accountJob()
	return s.answer(job, took, err, kindCompiled, func(b []byte) []byte {
		return appendProgram(binary.AppendUvarint(b, uint64(took)), p)
	})
}

// accountJob ends the accounting of a job and returns its CPU time and allocated bytes.
func (s *server) accountJob() (took time.Duration, memory int64) {
	now := processCPU()
	took, s.cpu = now-s.cpu, now
	allocated := allocatedMemory()
	memory, s.memory = allocated-s.memory, allocated
	s.shared.begin(0, now)
	s.watch.end()
	// Memory left by a wasteful run must not be charged to the next one. Garbage can be
	// collected, but mapped memory counts against the limit forever: a process that has mapped
	// more than the collector's limit (see warmUp) is replaced by a new one.
	if took > 2*time.Millisecond {
		s.retiring = mappedMemory()-s.base > s.limits.Memory*8/10
		if !s.retiring && readMetric("/memory/classes/heap/objects:bytes") > s.limits.Memory/4 {
			runtime.GC()
			s.cpu = processCPU()
		}
	}
	return took, memory
}

func emptyResult(b []byte) []byte { return b }

func (s *server) answer(job uint64, took time.Duration, err error, kind byte, fill func([]byte) []byte) error {
	s.mu.Lock()
	start := len(s.out)
	if err == nil {
		s.out = fill(binary.AppendUvarint(openFrame(s.out, kind), job))
	} else {
		var e *scripts.Error
		if !errors.As(err, &e) {
			e = &scripts.Error{Phase: scripts.PhaseRun, Message: err.Error()}
		}
		text, merr := json.Marshal(e)
		if merr != nil {
			s.mu.Unlock()
			return merr
		}
		s.out = binary.AppendUvarint(openFrame(s.out, kindError), job)
		s.out = append(binary.AppendUvarint(s.out, uint64(took)), text...)
	}
	s.out = closeFrame(s.out, start)
	full := len(s.out) >= flushBytes
	s.mu.Unlock()
	if full {
		return s.flush()
	}
	return nil
}
