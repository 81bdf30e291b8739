package transform

import (
	"bytes"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"switchhook/scripts"
	"switchhook/scripts/jsonindex"

	"github.com/dlclark/regexp2/v2"
	"github.com/dop251/goja"
)

// run is one call of a transform, with its own JavaScript runtime: creating one costs less
// than a microsecond, and no state can leak into the next run.
type run struct {
	l       *Loaded
	ev      *scripts.Event
	limits  scripts.Limits
	vm      *goja.Runtime
	console console
	stopped atomic.Bool // the run was interrupted from outside
	matches *regexp2.Guard
	noMatch error // why a match of a regular expression did not finish

	dropped    bool
	dropReason string

	bigIntReady bool // BigInt.prototype.toJSON is installed

	scratch *scratch
}

// scratch is memory that is reused by later runs. Data that outlives a run must not refer to
// it.
type scratch struct {
	doc  jsonindex.Doc // the event's data
	body []byte
}

const (
	maxScratchValues = 8 << 10
	maxScratchBytes  = 64 << 10
)

var scratches = sync.Pool{New: func() any { return new(scratch) }}

func (s *scratch) release() {
	if s.doc.Values() <= maxScratchValues && cap(s.body) <= maxScratchBytes {
		scratches.Put(s)
	}
}

var errNoTransform = &scripts.Error{
	Phase:   scripts.PhaseCompile,
	Message: "no transform function: write `export default function transform(event, request) { … }`",
}

// Run calls the transform with an event and a request; neither is changed, and the
// result shares no memory with them. The error is a *scripts.Error.
//
// watch, if not nil, is called before the script starts with a function that interrupts
// the run. That function may be called by any goroutine at any time, even after the run has
// ended. It stops the script's code, but not a long-running built-in.
func (l *Loaded) Run(ev *scripts.Event, req scripts.Request, limits scripts.Limits, watch func(interrupt func())) (res scripts.Result, err error) {
	r := newRun(l, ev, limits)
	defer r.guardMatches()()
	if watch != nil {
		watch(r.interrupt)
	}
	r.scratch = scratches.Get().(*scratch)
	res, err = r.protect(req)
	r.scratch.release()
	if err == nil && r.noMatch != nil { // the failed match was the script's last step
		err = r.stopError()
	}
	switch {
	case r.dropped && r.noMatch == nil: // regardless of what the script did after calling drop
		res, err = scripts.Result{Dropped: true, DropReason: r.dropReason, Console: r.console.done()}, nil
	case err != nil:
		res = scripts.Result{}
		if e, ok := errors.AsType[*scripts.Error](err); ok {
			e.Console = r.console.done()
		}
	default:
		res.Console = r.console.done()
	}
	return res, err
}

func newRun(l *Loaded, ev *scripts.Event, limits scripts.Limits) *run {
	r := &run{l: l, ev: ev, limits: limits, vm: goja.New()}
	r.matches = regexp2.NewGuard(r.matchFailed)
	r.console.limits = limits
	r.vm.SetParserOptions(withoutSourceMaps...) // eval and Function must not read files
	r.vm.SetMaxCallStackSize(limits.CallDepth)
	r.vm.SetTimeSource(func() time.Time { return ev.Received })
	r.vm.SetRandSource(randomOf(ev.ID))
	for _, h := range l.uses.helpers {
		h.install(r)
	}
	if l.uses.stringify {
		r.readyBigInt()
	}
	return r
}

// randomOf returns the source of Math.random: the same numbers for the same event.
func randomOf(id string) goja.RandSource {
	var rnd *rand.Rand
	return func() float64 {
		if rnd == nil {
			h := fnv.New64a()
			_, _ = h.Write([]byte(id)) // never fails
			rnd = rand.New(rand.NewPCG(h.Sum64(), uint64(len(id))))
		}
		return rnd.Float64()
	}
}

func (r *run) interrupt() {
	r.stopped.Store(true)
	r.vm.Interrupt("timeout")
	r.matches.Stop()
}

// protect runs every access to the script's values below its recover: a getter, a toString or
// a proxy runs the script's code, and goja does not catch all of Go's panics.
func (r *run) protect(req scripts.Request) (res scripts.Result, err error) {
	defer r.recoverInto(&err)
	transform, err := r.define()
	if err != nil {
		return res, err
	}
	event, err := r.event()
	if err != nil {
		return res, err
	}
	rec, request := r.request(req)
	value, err := transform(goja.Undefined(), event, request)
	if err == nil {
		value, err = r.await(value)
	}
	if err != nil {
		return res, r.failure(err)
	}
	if ex := r.vm.Try(func() {
		if o, ok := value.(*goja.Object); ok && o.SameAs(request) {
			err = &scripts.Error{Phase: scripts.PhaseRun, Message: "transform returned its request: return the body"}
			return
		}
		if err = r.body(value, &res); err == nil {
			err = r.changed(rec, request, req, &res)
		}
	}); ex != nil {
		return res, r.failure(ex)
	}
	if err != nil {
		return res, r.failure(err)
	}
	return res, nil
}

// define runs the program's top level and returns the function it defines.
func (r *run) define() (goja.Callable, error) {
	value, err := r.vm.RunProgram(r.l.prog)
	if err == nil && !r.l.direct {
		value, err = r.unwrap(value)
	}
	if err != nil {
		return nil, r.failure(err)
	}
	transform, ok := goja.AssertFunction(value)
	if !ok {
		e := *errNoTransform
		return nil, &e
	}
	return transform, nil
}

// unwrap calls the wrapper of a program.
func (r *run) unwrap(wrapper goja.Value) (goja.Value, error) {
	call, _ := goja.AssertFunction(wrapper)
	module := r.vm.NewObject()
	if !r.l.uses.modules {
		return call(goja.Undefined(), module)
	}
	exports := r.vm.NewObject()
	_ = module.Set("exports", exports) // a new object takes any property
	return call(goja.Undefined(), module, exports, r.vm.ToValue(r.require))
}

// event returns the transform's first argument.
func (r *run) event() (goja.Value, error) {
	root := r.ev.Doc
	if !root.Exists() {
		if err := r.scratch.doc.Reset(r.ev.Data, jsonindex.Limits{}); err != nil {
			return nil, &scripts.Error{Phase: scripts.PhaseRun, Message: "event data: " + err.Error()}
		}
		root = r.scratch.doc.Root()
	}
	_, o := r.record(eventNames, func(i int) goja.Value {
		switch i {
		case 0:
			return r.vm.ToValue(r.ev.ID)
		case 1:
			return r.vm.ToValue(r.ev.Type)
		case 2:
			return r.vm.ToValue(r.ev.Account)
		case 3:
			return r.vm.ToValue(r.ev.Time.UTC().Format(time.RFC3339Nano))
		case 4:
			return r.textMap(r.ev.Headers)
		}
		return r.value(root)
	})
	return o, nil
}

var eventNames = []string{"id", "type", "account", "time", "headers", "data"}

// await returns the result of a promise. goja has already run all its reactions: there are
// no timers or external events that could still settle it.
func (r *run) await(v goja.Value) (goja.Value, error) {
	o, ok := v.(*goja.Object)
	if !ok || o.ExportType() != promiseType {
		return v, nil
	}
	p := o.Export().(*goja.Promise)
	switch p.State() {
	case goja.PromiseStateFulfilled:
		return p.Result(), nil
	case goja.PromiseStateRejected:
		return nil, r.thrown(p.Result(), nil)
	}
	return nil, &scripts.Error{Phase: scripts.PhaseRun, Message: "the promise that transform returned never settles: there is nothing to wait for in a transform but other promises"}
}

// body sets the result's body from the transform's return value.
func (r *run) body(v goja.Value, res *scripts.Result) error {
	if v == nil || goja.IsUndefined(v) {
		return &scripts.Error{Phase: scripts.PhaseRun, Message: "transform returned nothing: did you forget `return`?"}
	}
	if s, ok := v.(goja.String); ok {
		// A character is at least a byte, so a huge string is refused without copying it.
		if s.Length() > r.limits.Result {
			return r.limits.OutputError()
		}
		text := s.String()
		if len(text) > r.limits.Result {
			return r.limits.OutputError()
		}
		res.Body, res.ContentType = []byte(text), "text/plain; charset=utf-8"
		return nil
	}
	if o, ok := v.(*goja.Object); ok && lazyOf(o) == nil {
		if tag := classOf(o); tag == "URLSearchParams" {
			v = o.ToString()
			if err := r.body(v, res); err != nil {
				return err
			}
			res.ContentType = "application/x-www-form-urlencoded"
			return nil
		} else if use := unsendable(tag); use != "" && !r.hasToJSON(o) {
			return &scripts.Error{Phase: scripts.PhaseRun, Message: fmt.Sprintf("transform returned a %s, which has no JSON: %s", tag, use)}
		}
	}
	e := encoder{run: r, max: r.limits.Result, buf: r.scratch.body[:0]}
	ok, err := e.value(v)
	r.scratch.body = e.buf
	if err != nil {
		return err
	}
	if !ok {
		return &scripts.Error{Phase: scripts.PhaseRun, Message: fmt.Sprintf("transform returned a %s, which is not JSON", kindOf(v))}
	}
	res.Body, res.ContentType = bytes.Clone(e.buf), "application/json"
	return nil
}

// classOf returns the name of an object's class: "Map", "Error", "Uint8Array". It is empty
// for plain objects and arrays.
func classOf(o *goja.Object) string {
	if class := o.ClassName(); class != "Object" {
		return class
	}
	if tag, ok := o.GetSymbol(goja.SymToStringTag).(goja.String); ok && tag.Length() < 32 {
		return tag.String()
	}
	return ""
}

// unsendable returns a hint about what to return instead of an object that JSON.stringify
// encodes as {} or as numbered members; empty for all others.
func unsendable(class string) string {
	switch {
	case class == "Map":
		return "return Object.fromEntries(map)"
	case class == "Set" || strings.HasSuffix(class, "Iterator") || class == "Generator":
		return "return a list, such as [...it]"
	case class == "Error":
		return "throw it, or return its message"
	case class == "RegExp":
		return "return its source"
	case strings.HasSuffix(class, "Array") && class != "Array", class == "ArrayBuffer", class == "DataView":
		return "return a text, such as base64.encode(bytes)"
	case class == "WeakMap", class == "WeakSet", class == "Promise":
		return "return an object"
	}
	return ""
}

func (r *run) hasToJSON(o *goja.Object) bool {
	_, ok := goja.AssertFunction(o.Get("toJSON"))
	return ok
}

func kindOf(v goja.Value) string {
	if _, ok := v.(*goja.Symbol); ok {
		return "symbol"
	}
	return "function"
}

// failure converts an error from goja into a script error.
func (r *run) failure(err error) error {
	var (
		ours     *scripts.Error
		stop     *goja.InterruptedError
		overflow *goja.StackOverflowError
		ex       *goja.Exception
	)
	switch {
	case errors.As(err, &ours):
		return ours
	case errors.As(err, &stop):
		return r.l.locate(r.stopError(), stop.Stack())
	case errors.As(err, &overflow):
		e := &scripts.Error{Phase: scripts.PhaseRun, Message: fmt.Sprintf("calls nest deeper than %d: endless recursion?", r.limits.CallDepth)}
		return r.l.locate(e, overflow.Stack())
	case errors.As(err, &ex):
		return r.thrown(ex.Value(), ex.Stack())
	}
	return &scripts.Error{Phase: scripts.PhaseRun, Message: err.Error()}
}

// recoverInto converts a panic of a run into an error.
func (r *run) recoverInto(err *error) {
	switch x := recover().(type) {
	case nil:
	case *goja.Object:
		*err = r.thrown(x, nil)
	case runtime.Error:
		if text := x.Error(); strings.Contains(text, "makeslice") || strings.Contains(text, "growslice") {
			*err = r.limits.MemoryError()
			return
		}
		*err = &scripts.Error{Phase: scripts.PhaseRun, Message: "the script engine failed: " + x.Error()}
	case error:
		*err = r.failure(x)
	default:
		*err = &scripts.Error{Phase: scripts.PhaseRun, Message: fmt.Sprint("the script engine failed: ", x)}
	}
}
