package scripttest

import (
	"bytes"
	"encoding/json"
	"time"

	"switchhook/scripts"
)

// Case is one test case: an event, and what must come of it.
type Case struct {
	Name   string `json:"name"`
	Event  Event  `json:"event"`
	Expect Expect `json:"expect"`
}

// Event is the event of a case. What it leaves out has fixed values, so that a case says
// the same today and next year.
type Event struct {
	Type    string            `json:"type"`
	ID      string            `json:"id,omitempty"`      // DefaultID where empty
	Account string            `json:"account,omitempty"` // DefaultAccount where empty
	Time    time.Time         `json:"time,omitzero"`     // DefaultTime where zero; the clock inside of a transform too
	Headers map[string]string `json:"headers,omitempty"`
	Data    json.RawMessage   `json:"data"`
}

// What an Event has where its case says nothing.
const (
	DefaultID      = "evt_test"
	DefaultAccount = "default"
)

// DefaultTime is when an Event happens where its case does not say.
var DefaultTime = time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC)

// Event gives the event as scripts see it.
func (e *Event) Event() *scripts.Event {
	ev := &scripts.Event{ID: e.ID, Type: e.Type, Account: e.Account, Time: e.Time, Headers: e.Headers, Data: e.Data}
	if ev.ID == "" {
		ev.ID = DefaultID
	}
	if ev.Account == "" {
		ev.Account = DefaultAccount
	}
	if ev.Time.IsZero() {
		ev.Time = DefaultTime
	}
	ev.Received = ev.Time
	return ev
}

// Expect is what must come of a case's event. Fields that are left out are not looked
// at. Where only Matches is given the transform is not run.
type Expect struct {
	Matches      *bool             `json:"matches,omitempty"`       // the filter's verdict
	Body         json.RawMessage   `json:"body,omitempty"`          // the whole body, numbers by value and objects in any order; a text body is a string
	BodyContains json.RawMessage   `json:"body_contains,omitempty"` // members that the body has among others, at any depth; arrays are compared whole
	Method       string            `json:"method,omitempty"`
	Path         string            `json:"path,omitempty"`
	Query        map[string]Values `json:"query,omitzero"`   // the whole query
	Headers      map[string]string `json:"headers,omitzero"` // headers that are sent among others
	Dropped      *Dropped          `json:"dropped,omitempty"`
	Error        *Failing          `json:"error,omitempty"`
	Console      []string          `json:"console,omitzero"` // all lines: "log: …"
}

// Values are a query parameter's values; one value is a string in JSON.
type Values []string

// MarshalJSON gives a string for one value, and else an array.
func (v Values) MarshalJSON() ([]byte, error) {
	if len(v) == 1 {
		return marshal(v[0])
	}
	return marshal([]string(v))
}

// UnmarshalJSON reads both.
func (v *Values) UnmarshalJSON(text []byte) error {
	var one string
	if json.Unmarshal(text, &one) == nil {
		*v = Values{one}
		return nil
	}
	return json.Unmarshal(text, (*[]string)(v))
}

// Dropped expects that the transform drops the event: for this reason, if one is given.
type Dropped struct{ Reason string }

// MarshalJSON gives the reason, or true where any will do.
func (d Dropped) MarshalJSON() ([]byte, error) {
	if d.Reason == "" {
		return []byte("true"), nil
	}
	return marshal(d.Reason)
}

// Failing expects that the filter or the transform fails.
type Failing struct {
	Phase    string `json:"phase,omitempty"` // a scripts.Phase, or which of the two it is: "filter", "transform"
	Contains string `json:"contains,omitempty"`
	Line     int    `json:"line,omitempty"` // 1-based
}

// MarshalJSON gives just the text where there is nothing else.
func (f Failing) MarshalJSON() ([]byte, error) {
	if f.Phase == "" && f.Line == 0 {
		return marshal(f.Contains)
	}
	type plain Failing
	return marshal(plain(f))
}

// UnmarshalJSON reads a case as strictly as ParseCases.
func (c *Case) UnmarshalJSON(text []byte) error {
	list, err := ParseCases(append(append([]byte{'['}, text...), ']'))
	if err != nil {
		return err
	}
	*c = list[0]
	return nil
}

// UnmarshalJSON reads expectations as strictly as ParseCases.
func (e *Expect) UnmarshalJSON(text []byte) error {
	doc, err := parse(text)
	if err != nil {
		return err
	}
	d := &decoder{}
	*e = d.expect(field{doc.Root(), "expect"})
	return d.done(text)
}

// empty tells whether nothing is expected.
func (e *Expect) empty() bool { return e.Matches == nil && !e.beyondFilter() }

// beyondFilter tells whether something is expected that the filter alone can't answer.
func (e *Expect) beyondFilter() bool {
	return e.ofRequest() || e.Dropped != nil || e.Error != nil || e.Console != nil
}

// ofRequest tells whether something is expected of a request that is sent.
func (e *Expect) ofRequest() bool {
	return e.Body != nil || e.BodyContains != nil || e.Method != "" || e.Path != "" || e.Query != nil || e.Headers != nil
}

// marshal is json.Marshal that leaves <, > and & alone: what it writes is for people.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte{'\n'}), nil
}
