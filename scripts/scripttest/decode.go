package scripttest

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"switchhook/scripts"
	"switchhook/scripts/jsonindex"
	"switchhook/scripts/suggest"
)

// ParseError is a mistake in test cases, with its position.
type ParseError struct {
	Path    string // "cases[2].expect.body_contains"; empty for the whole text
	Line    int    // 1-based, 0 if unknown
	Message string

	offset int
}

// Error returns the path and the message.
func (e *ParseError) Error() string {
	if e.Path == "" {
		return e.Message
	}
	return e.Path + " " + e.Message
}

// ParseCases reads a JSON array of cases. It is strict: an unknown member is an error, and so
// is a value of the wrong kind. The error is a *ParseError; its paths begin with "cases".
func ParseCases(text []byte) ([]Case, error) {
	doc, err := parse(text)
	if err != nil {
		return nil, err
	}
	d := &decoder{}
	cases := d.cases(field{doc.Root(), "cases"})
	return cases, d.done(text)
}

func parse(text []byte) (*jsonindex.Doc, error) {
	doc, err := jsonindex.Parse(text, jsonindex.Limits{NoDuplicates: true})
	if err != nil {
		wrong := &ParseError{Message: "not valid JSON: " + err.Error()}
		if at := (*jsonindex.SyntaxError)(nil); errors.As(err, &at) {
			wrong.Line = at.Line
		}
		return nil, wrong
	}
	return doc, nil
}

// decoder reads JSON values into cases, and records the first mistake.
type decoder struct {
	err   *ParseError
	files func(name string) ([]byte, error) // reads the files that events name; nil: events may not name files
}

// field is a value with its path.
type field struct {
	jsonindex.Value
	path string
}

func (f field) get(name string) field { return field{f.Get(name), f.path + "." + name} }

// done returns the first mistake, with its line in text.
func (d *decoder) done(text []byte) error {
	if d.err == nil {
		return nil
	}
	d.err.Line = 1 + bytes.Count(text[:d.err.offset], []byte{'\n'})
	return d.err
}

func (d *decoder) wrong(f field, format string, args ...any) {
	if d.err == nil {
		d.err = &ParseError{Path: strings.TrimPrefix(f.path, "."), Message: fmt.Sprintf(format, args...), offset: f.Offset()}
	}
}

// object checks that f is an object with these members only; it returns false if it is not.
func (d *decoder) object(f field, names ...string) bool {
	if f.Kind() != jsonindex.Object {
		d.wrong(f, "must be an object, but is %s", kind(f))
		return false
	}
	for name, member := range f.Members() {
		if slices.Contains(names, name) {
			continue
		}
		at := field{member, f.path + "." + name}
		if meant := suggest.Closest(name, names); meant != "" {
			d.wrong(at, "is not known: did you mean %q?", meant)
		} else {
			d.wrong(at, "is not known: the members are %s", strings.Join(names, ", "))
		}
	}
	return true
}

func kind(f field) string {
	switch k := f.Kind(); k {
	case jsonindex.Missing:
		return "missing"
	case jsonindex.Null:
		return "null"
	case jsonindex.Array, jsonindex.Object:
		return "an " + k.String()
	default:
		return "a " + k.String()
	}
}

// text reads a string; a missing one is empty.
func (d *decoder) text(f field) string {
	if f.Exists() && f.Kind() != jsonindex.String {
		d.wrong(f, "must be a string, but is %s", kind(f))
	}
	return strings.Clone(f.Text()) // which would otherwise keep a reference to the whole text
}

// texts reads an object whose members are strings.
func (d *decoder) texts(f field) map[string]string {
	if !f.Exists() || !d.object(f, names(f)...) {
		return nil
	}
	m := make(map[string]string, f.Len())
	for name := range f.Members() {
		m[strings.Clone(name)] = d.text(f.get(name))
	}
	return m
}

func names(f field) (list []string) {
	for name := range f.Members() {
		list = append(list, name)
	}
	return list
}

func (d *decoder) list(f field) []string {
	if !f.Exists() {
		return nil
	}
	if f.Kind() != jsonindex.Array {
		d.wrong(f, "must be an array of strings, but is %s", kind(f))
	}
	texts := make([]string, 0, f.Len())
	for i, e := range f.Elements() {
		texts = append(texts, d.text(field{e, fmt.Sprintf("%s[%d]", f.path, i)}))
	}
	return texts
}

func (d *decoder) raw(f field) []byte { return slices.Clone(f.Raw()) }

func (d *decoder) cases(f field) []Case {
	if f.Kind() != jsonindex.Array {
		d.wrong(f, "must be an array of cases, but is %s", kind(f))
		return nil
	}
	cases := make([]Case, 0, f.Len())
	known := map[string]bool{}
	for i, e := range f.Elements() {
		at := field{e, fmt.Sprintf("%s[%d]", f.path, i)}
		c := d.oneCase(at)
		if known[c.Name] && c.Name != "" {
			d.wrong(at.get("name"), "is %q, as an earlier case is called", c.Name)
		}
		known[c.Name] = true
		cases = append(cases, c)
	}
	return cases
}

func (d *decoder) oneCase(f field) (c Case) {
	if !d.object(f, "name", "event", "expect") {
		return c
	}
	if c.Name = d.text(f.get("name")); strings.TrimSpace(c.Name) == "" {
		d.wrong(field{f.Value, f.path + ".name"}, "is missing: say in a sentence what the case shows")
	}
	c.Event = d.event(f.get("event"))
	if !f.Get("expect").Exists() {
		d.wrong(field{f.Value, f.path + ".expect"}, "is missing: say what must come of the event")
		return c
	}
	c.Expect = d.expect(f.get("expect"))
	return c
}

var eventNames = []string{"type", "id", "account", "time", "headers", "data"}

func (d *decoder) event(f field) (e Event) {
	known := eventNames
	if d.files != nil {
		known = append([]string{"file"}, eventNames...)
	}
	if !d.object(f, known...) {
		return e
	}
	if name := f.get("file"); d.files != nil && name.Exists() {
		text, err := d.files(d.text(name))
		if err == nil {
			e, err = ReadEvent(text)
		}
		if err != nil {
			d.wrong(name, "can't be used: %v", err)
		}
	}
	d.eventInto(f, &e)
	switch {
	case e.Type == "":
		d.wrong(field{f.Value, f.path + ".type"}, "is missing")
	case e.Data == nil:
		d.wrong(field{f.Value, f.path + ".data"}, "is missing: give the payload, any JSON value")
	}
	return e
}

// eventInto reads the members of an event in f into e, replacing those that e has.
func (d *decoder) eventInto(f field, e *Event) {
	for i, into := range []*string{&e.Type, &e.ID, &e.Account} {
		if at := f.get(eventNames[i]); at.Exists() {
			*into = d.text(at)
		}
	}
	if at := f.get("time"); at.Exists() {
		var err error
		if e.Time, err = time.Parse(time.RFC3339, d.text(at)); err != nil {
			d.wrong(at, "must be an RFC 3339 time, such as \"2026-01-01T00:00:00Z\"")
		}
	}
	if at := f.get("headers"); at.Exists() {
		e.Headers = d.texts(at)
	}
	if f.Get("data").Exists() {
		e.Data = d.raw(f.get("data"))
	}
}

// ReadEvent reads a sample event. A JSON object with type and data, and only members of an
// event, is a whole event; anything else is the payload, and the Type is then empty.
func ReadEvent(text []byte) (Event, error) {
	doc, err := parse(text)
	if err != nil {
		return Event{}, err
	}
	root := doc.Root()
	whole := root.Get("type").Kind() == jsonindex.String && root.Get("data").Exists()
	for name := range root.Members() {
		whole = whole && slices.Contains(eventNames, name)
	}
	if !whole {
		return Event{Data: slices.Clone(root.Raw())}, nil
	}
	d := &decoder{}
	var e Event
	d.eventInto(field{root, ""}, &e)
	return e, d.done(text)
}

var phases = []string{
	"filter", "transform", string(scripts.PhaseLint), string(scripts.PhaseCompile), string(scripts.PhaseRun),
	string(scripts.PhaseTimeout), string(scripts.PhaseMemory), string(scripts.PhaseOutput), string(scripts.PhaseCrash),
}

func (d *decoder) expect(f field) (e Expect) {
	if f.Kind() == jsonindex.Null { // "expect:" without a value, in YAML
		return e
	}
	if !d.object(f, "matches", "body", "body_contains", "method", "path", "query", "headers", "dropped", "error", "console") {
		return e
	}
	if at := f.get("matches"); at.Exists() {
		is := at.Kind() == jsonindex.True
		if e.Matches = &is; !is && at.Kind() != jsonindex.False {
			d.wrong(at, "must be true or false, but is %s", kind(at))
		}
	}
	e.Body, e.BodyContains = d.raw(f.get("body")), d.raw(f.get("body_contains"))
	e.Method, e.Path = d.text(f.get("method")), d.text(f.get("path"))
	e.Headers, e.Console = d.texts(f.get("headers")), d.list(f.get("console"))
	if at := f.get("query"); at.Exists() && d.object(at, names(at)...) {
		e.Query = make(map[string]Values, at.Len())
		for name := range at.Members() {
			if v := at.get(name); v.Kind() == jsonindex.Array {
				e.Query[name] = d.list(v)
			} else {
				e.Query[name] = Values{d.text(v)}
			}
		}
	}
	switch at := f.get("dropped"); at.Kind() {
	case jsonindex.Missing:
	case jsonindex.True, jsonindex.String:
		e.Dropped = &Dropped{Reason: strings.Clone(at.Text())}
	default:
		d.wrong(at, "must be true or the reason, but is %s", kind(at))
	}
	if at := f.get("error"); at.Exists() {
		e.Error = d.failing(at)
	}
	return e
}

func (d *decoder) failing(f field) *Failing {
	if f.Kind() == jsonindex.String {
		return &Failing{Contains: d.text(f)}
	}
	if f.Kind() != jsonindex.Object {
		d.wrong(f, "must be a part of the message, or an object of phase, contains and line, but is %s", kind(f))
		return nil
	}
	d.object(f, "phase", "contains", "line")
	e := &Failing{Phase: d.text(f.get("phase")), Contains: d.text(f.get("contains"))}
	if e.Phase != "" && !slices.Contains(phases, e.Phase) {
		d.wrong(f.get("phase"), "is not a phase: the phases are %s", strings.Join(phases, ", "))
	}
	if at := f.get("line"); at.Exists() {
		var err error
		if e.Line, err = strconv.Atoi(string(at.Raw())); err != nil || e.Line < 1 {
			d.wrong(at, "must be a line number, counted from 1")
		}
	}
	return e
}
