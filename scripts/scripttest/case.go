package scripttest

import (
	"bytes"
	"encoding/json"
	"time"

	"switchhook/scripts"
)

// Case is one test case: an event and its expected outcome.
type Case struct {
	Name   string `json:"name"`
	Event  Event  `json:"event"`
	Expect Expect `json:"expect"`
}

// Event is the event of a case. Members that are left out have fixed values, so that a case
// has the same outcome today and next year.
type Event struct {
	Type    string            `json:"type"`
	ID      string            `json:"id,omitempty"`      // defaultID if empty
	Account string            `json:"account,omitempty"` // DefaultAccount if empty
	Time    time.Time         `json:"time,omitzero"`     // defaultTime if zero; also the clock inside a transform
	Headers map[string]string `json:"headers,omitempty"`
	Data    json.RawMessage   `json:"data"`
}

// The default values of an Event.
const (
	defaultID      = "evt_test"
	DefaultAccount = "default"
)

// defaultTime is the time of an Event whose case has none.
var defaultTime = time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC)

// Event returns the event as scripts see it.
func (e *Event) Event() *scripts.Event {
	ev := &scripts.Event{ID: e.ID, Type: e.Type, Account: e.Account, Time: e.Time, Headers: e.Headers, Data: e.Data}
	if ev.ID == "" {
		ev.ID = defaultID
	}
	if ev.Account == "" {
		ev.Account = DefaultAccount
	}
	if ev.Time.IsZero() {
		ev.Time = defaultTime
	}
	ev.Received = ev.Time
	return ev
}

// Expect is the expected outcome of a case. Fields that are left out are not checked. If
// only Matches is given the transform is not run.
type Expect struct {
	Matches      *bool             `json:"matches,omitempty"`       // verdict of the filter
	Body         json.RawMessage   `json:"body,omitempty"`          // the whole body, numbers by value and objects in any order; a text body is a string
	BodyContains json.RawMessage   `json:"body_contains,omitempty"` // members that the body must have among others, at any depth; arrays are compared whole
	Method       string            `json:"method,omitempty"`
	Path         string            `json:"path,omitempty"`
	Query        map[string]Values `json:"query,omitzero"`   // the whole query
	Headers      map[string]string `json:"headers,omitzero"` // headers that must be sent among others
	Dropped      *Dropped          `json:"dropped,omitempty"`
	Error        *Failing          `json:"error,omitempty"`
	Console      []string          `json:"console,omitzero"` // all lines: "log: …"
}

// Values are a query parameter's values; one value is a string in JSON.
type Values []string

// MarshalJSON returns a string for one value, otherwise an array.
func (v Values) MarshalJSON() ([]byte, error) {
	if len(v) == 1 {
		return marshal(v[0])
	}
	return marshal([]string(v))
}

// UnmarshalJSON reads a string or an array of strings.
func (v *Values) UnmarshalJSON(text []byte) error {
	var one string
	if json.Unmarshal(text, &one) == nil {
		*v = Values{one}
		return nil
	}
	return json.Unmarshal(text, (*[]string)(v))
}

// Dropped expects that the transform drops the event, with this reason if one is given.
type Dropped struct{ Reason string }

// MarshalJSON returns the reason, or true if any reason is accepted.
func (d Dropped) MarshalJSON() ([]byte, error) {
	if d.Reason == "" {
		return []byte("true"), nil
	}
	return marshal(d.Reason)
}

// Failing expects that the filter or the transform fails.
type Failing struct {
	Phase    string `json:"phase,omitempty"` // a scripts.Phase, or the script that fails: "filter", "transform"
	Contains string `json:"contains,omitempty"`
	Line     int    `json:"line,omitempty"` // 1-based
}

// MarshalJSON returns only the text if no other field is set.
func (want Failing) MarshalJSON() ([]byte, error) {
	if want.Phase == "" && want.Line == 0 {
		return marshal(want.Contains)
	}
	type plain Failing
	return marshal(plain(want))
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
func (want *Expect) UnmarshalJSON(text []byte) error {
	doc, err := parse(text)
	if err != nil {
		return err
	}
	d := &decoder{}
	*want = d.expect(field{doc.Root(), "expect"})
	return d.done(text)
}

// empty reports whether no field is set.
func (want *Expect) empty() bool { return want.Matches == nil && !want.beyondFilter() }

// beyondFilter reports whether an expectation depends on more than the filter.
func (want *Expect) beyondFilter() bool {
	return want.ofRequest() || want.Dropped != nil || want.Error != nil || want.Console != nil
}

// ofRequest reports whether an expectation concerns the request that is sent.
func (want *Expect) ofRequest() bool {
	return want.Body != nil || want.BodyContains != nil || want.Method != "" || want.Path != "" || want.Query != nil || want.Headers != nil
}

// marshal is json.Marshal without escaping <, > and &, as its output is for people.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte{'\n'}), nil
}
