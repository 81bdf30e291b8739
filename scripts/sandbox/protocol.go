package sandbox

import (
	"encoding/binary"
	"errors"
	"maps"
	"slices"
	"time"

	"switchhook/scripts"
)

// A frame is a length of four bytes (little-endian, of the rest), a kind, and fields.
// Numbers are varints; texts and lists are preceded by their length.
const (
	frameHeader = 4

	// To the child.
	kindProgram = 'P' // number, program
	kindForget  = 'F' // number of a program that is not needed any more
	kindRun     = 'R' // job, program's number, event, request
	kindCompile = 'C' // job, source

	// From the child.
	kindHello    = 'H' // Protections, as JSON
	kindResult   = 'A' // job, result
	kindError    = 'E' // job, scripts.Error as JSON
	kindCompiled = 'K' // job, CPU time, program
	kindSkipped  = 'S' // job that was skipped because the parent has reclaimed it
)

var errMalformed = errors.New("malformed frame")

// fields reads the fields of a frame. After the first bad field all others are empty and bad
// is set.
type fields struct {
	b   []byte
	bad bool
}

func (f *fields) number() uint64 {
	n, size := binary.Uvarint(f.b)
	if size <= 0 {
		f.bad, f.b = true, nil
		return 0
	}
	f.b = f.b[size:]
	return n
}

// bytes returns a field's bytes without copying them.
func (f *fields) bytes() []byte {
	n := f.number()
	if n > uint64(len(f.b)) {
		f.bad, f.b = true, nil
		return nil
	}
	field := f.b[:n:n]
	f.b = f.b[n:]
	return field
}

func (f *fields) text() string { return string(f.bytes()) }

// count reads a list's length, which can't exceed the number of remaining bytes.
func (f *fields) count() int {
	n := f.number()
	if n > uint64(len(f.b)) {
		f.bad, f.b = true, nil
		return 0
	}
	return int(n)
}

func appendText[T string | []byte](b []byte, s T) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

func appendTime(b []byte, t time.Time) []byte {
	b = binary.AppendUvarint(b, uint64(t.Unix()))
	return binary.AppendUvarint(b, uint64(t.Nanosecond()))
}

func (f *fields) time() time.Time {
	seconds := int64(f.number())
	return time.Unix(seconds, int64(f.number()%1e9)).UTC()
}

// appendMap appends a map sorted by name, so that equal maps have equal bytes.
func appendMap(b []byte, m map[string]string) []byte {
	b = binary.AppendUvarint(b, uint64(len(m)))
	for _, name := range slices.Sorted(maps.Keys(m)) {
		b = appendText(appendText(b, name), m[name])
	}
	return b
}

func (f *fields) stringMap() map[string]string {
	n := f.count()
	if n == 0 {
		return nil
	}
	m := make(map[string]string, min(n, 64))
	for range n {
		name := f.text()
		m[name] = f.text()
	}
	return m
}

func appendEvent(b []byte, ev *scripts.Event) []byte {
	b = appendText(b, ev.ID)
	b = appendText(b, ev.Type)
	b = appendText(b, ev.Account)
	b = appendTime(b, ev.Time)
	b = appendTime(b, ev.Received)
	b = appendMap(b, ev.Headers)
	return appendText(b, ev.Data)
}

// event reads an event whose Data shares the frame's memory.
func (f *fields) event() *scripts.Event {
	return &scripts.Event{
		ID:       f.text(),
		Type:     f.text(),
		Account:  f.text(),
		Time:     f.time(),
		Received: f.time(),
		Headers:  f.stringMap(),
		Data:     f.bytes(),
	}
}

func appendRequest(b []byte, req *scripts.Request) []byte {
	b = appendText(b, req.Method)
	b = appendText(b, req.Path)
	b = binary.AppendUvarint(b, uint64(len(req.Query)))
	for _, name := range slices.Sorted(maps.Keys(req.Query)) {
		b = appendText(b, name)
		b = binary.AppendUvarint(b, uint64(len(req.Query[name])))
		for _, value := range req.Query[name] {
			b = appendText(b, value)
		}
	}
	return appendMap(b, req.Headers)
}

func (f *fields) request() scripts.Request {
	req := scripts.Request{Method: f.text(), Path: f.text()}
	if n := f.count(); n > 0 {
		req.Query = make(map[string][]string, min(n, 64))
		for range n {
			name := f.text()
			var values []string
			for range f.count() {
				values = append(values, f.text())
			}
			req.Query[name] = values
		}
	}
	req.Headers = f.stringMap()
	return req
}

func appendProgram(b []byte, p *scripts.Program) []byte {
	b = appendText(b, p.Hash)
	b = appendText(b, p.Source)
	b = appendText(b, p.Code)
	return appendText(b, p.Map)
}

func (f *fields) program() *scripts.Program {
	return &scripts.Program{Hash: f.text(), Source: f.text(), Code: f.text(), Map: append([]byte(nil), f.bytes()...)}
}

const (
	flagDropped = 1 << iota
	flagRequest
)

func appendResult(b []byte, res *scripts.Result) []byte {
	var flags uint64
	if res.Dropped {
		flags |= flagDropped
	}
	if res.Request != nil {
		flags |= flagRequest
	}
	b = binary.AppendUvarint(b, flags)
	b = binary.AppendUvarint(b, uint64(res.CPU))
	b = binary.AppendUvarint(b, uint64(res.Memory))
	b = appendText(b, res.ContentType)
	b = appendText(b, res.DropReason)
	b = binary.AppendUvarint(b, uint64(len(res.Console)))
	for _, line := range res.Console {
		b = appendText(b, line)
	}
	if res.Request != nil {
		b = appendRequest(b, res.Request)
	}
	return appendText(b, res.Body)
}

// result reads a result, copying everything out of the frame.
func (f *fields) result() scripts.Result {
	flags := f.number()
	res := scripts.Result{
		Dropped:     flags&flagDropped != 0,
		CPU:         time.Duration(f.number()),
		Memory:      int64(f.number()),
		ContentType: f.text(),
		DropReason:  f.text(),
	}
	for range f.count() {
		res.Console = append(res.Console, f.text())
	}
	if flags&flagRequest != 0 {
		req := f.request()
		res.Request = &req
	}
	if body := f.bytes(); !res.Dropped {
		res.Body = append(make([]byte, 0, len(body)), body...)
	}
	return res
}

// openFrame starts a frame at the end of b; closeFrame fills in the length of the frame at
// the given offset.
func openFrame(b []byte, kind byte) []byte { return append(b, 0, 0, 0, 0, kind) }

func closeFrame(b []byte, start int) []byte {
	binary.LittleEndian.PutUint32(b[start:], uint32(len(b)-start-frameHeader))
	return b
}
