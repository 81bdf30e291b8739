// Package cloudevents reads and writes CloudEvents 1.0 as the HTTP protocol binding has
// them: structured, batched (both in the JSON event format) and binary. It knows no HTTP
// framework and nothing of what becomes of the events. One that came in goes out as the one
// that it was: its attributes are kept in Event.Headers, from where Stored.Headers has them.
package cloudevents

import (
	"fmt"
	"mime"
	"net/url"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"switchhook/engine/rfc3339"
	"switchhook/scripts/jsonindex"
)

// Event is a CloudEvent as the router takes it in.
type Event struct {
	ID, Source, Type string
	Time             time.Time // zero where the event has none
	// Headers are the other attributes, extensions among them, under "ce-" and their name.
	// "ce-datacontenttype" is there exactly if the event has data; HeaderEncoding says that
	// Data is base64.
	Headers map[string]string
	// Data is the payload as JSON: JSON as it came, text as a string, anything else as a
	// string of base64, and null where the event has none.
	Data jsonindex.Value
}

// Media begins every Content-Type of the structured and the batched mode, in any case.
const Media = "application/cloudevents"

const (
	prefix = "ce-"
	// HeaderEncoding is "base64" where Data is a string that stands for other bytes. With its
	// second hyphen it can't be an attribute's.
	HeaderEncoding = "ce-data-encoding"
	implied        = "application/json" // JSON format 1.0.2, 3.1.2
)

// Error says which part of an event is wrong: an attribute of the JSON format, or a header.
type Error struct{ Field, Message string }

// Error gives the field and the message.
func (e *Error) Error() string { return e.Field + " " + e.Message }

func newError(field, format string, args ...any) error {
	return &Error{field, fmt.Sprintf(format, args...)}
}

// Mode is the content mode of a request.
type Mode int

// The content modes. A request that is none of the others is Binary if it carries the
// headers of a CloudEvent.
const (
	Binary Mode = iota
	Structured
	Batched
)

// ModeOf tells the content mode by the Content-Type, whose beginning decides. format is
// what follows in the media type, such as "+json"; charset its parameter.
func ModeOf(contentType string) (mode Mode, format, charset string) {
	media, parameters, _ := strings.Cut(strings.ToLower(contentType), ";")
	rest, ok := strings.CutPrefix(strings.TrimSpace(media), Media)
	if !ok {
		return Binary, "", ""
	}
	if _, params, err := mime.ParseMediaType("x/y;" + parameters); err == nil {
		charset = params["charset"]
	}
	if format, ok = strings.CutPrefix(rest, "-batch"); ok {
		return Batched, format, charset
	}
	return Structured, rest, charset
}

// attributes gathers what an event says of itself, however it was written. named gives
// an attribute's name as the sender wrote it, for errors.
type attributes struct {
	event   Event
	seen    map[string]bool
	named   func(string) string
	content string // datacontenttype
}

func newAttributes(named func(string) string) *attributes {
	return &attributes{event: Event{Headers: map[string]string{}}, seen: map[string]bool{}, named: named}
}

// set takes an attribute over, by its canonical string.
func (a *attributes) set(name, value string) error {
	field := a.named(name)
	switch {
	case name == "" || strings.IndexFunc(name, func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') }) >= 0:
		return newError(field, "is not a name of an attribute: they consist of the letters a to z and digits")
	case name == "data":
		return newError(field, "is not an attribute: the data goes into the body")
	case a.seen[name]:
		return newError(field, "is given twice")
	}
	a.seen[name] = true
	if problem := checkText(value); problem != "" {
		return newError(field, "%s", problem)
	}
	if value == "" && core[name] {
		return newError(field, "must not be empty")
	}
	return a.assign(field, name, value)
}

// assign puts the value of a valid attribute into the event. field is where it was given.
func (a *attributes) assign(field, name, value string) (err error) {
	switch name {
	case "specversion":
		if value != "1.0" {
			return newError(field, `is %.20q; this router takes CloudEvents "1.0"`, value)
		}
	case "id":
		a.event.ID = value
	case "type":
		a.event.Type = value
	case "source":
		if a.event.Source = value; !readsAsReference(value) {
			return newError(field, "%.100q is not a URI reference (RFC 3986)", value)
		}
		a.event.Headers[prefix+name] = value
	case "time":
		if a.event.Time, err = rfc3339.Parse(value); err != nil {
			return newError(field, "%.60q %v", value, err)
		}
	case "dataschema":
		if u, err := url.Parse(value); err != nil || !u.IsAbs() || !readsAsReference(value) {
			return newError(field, "%.100q is not an absolute URI (RFC 3986)", value)
		}
		a.event.Headers[prefix+name] = value
	case "datacontenttype":
		if _, _, err := mime.ParseMediaType(value); err != nil || !strings.Contains(value, "/") {
			return newError(field, `%.100q is not a media type such as "application/json" (RFC 2046)`, value)
		}
		a.content = value
	default:
		a.event.Headers[prefix+name] = value
	}
	return nil
}

// core are the attributes that the specification itself names; they are never empty.
var core = map[string]bool{
	"specversion": true, "id": true, "type": true, "source": true,
	"time": true, "subject": true, "dataschema": true, "datacontenttype": true,
}

// finish checks that what an event must have is there.
func (a *attributes) finish(data payload) (*Event, error) {
	for _, name := range []string{"specversion", "id", "source", "type"} {
		if !a.seen[name] {
			return nil, newError(a.named(name), "is missing: a CloudEvent has specversion, id, source and type")
		}
	}
	if data.given && a.content == "" {
		a.content = implied
	}
	if data.given {
		a.event.Headers[prefix+"datacontenttype"] = a.content
	}
	var err error
	a.event.Data, err = data.value(a.content, a.event.Headers)
	return &a.event, err
}

// checkText holds a value against what the type String may be made of.
func checkText(s string) string {
	if !utf8.ValidString(s) {
		return "is not valid UTF-8"
	}
	for _, r := range s {
		if unicode.IsControl(r) {
			return fmt.Sprintf("holds the control character %U", r)
		}
		if r >= 0xFDD0 && r <= 0xFDEF || r&0xFFFE == 0xFFFE {
			return fmt.Sprintf("holds %U, which is not a character", r)
		}
	}
	return ""
}

// readsAsReference reports whether a sender may call s a URI reference: some write characters
// beyond ASCII as they are.
func readsAsReference(s string) bool {
	_, err := url.Parse(s)
	return err == nil && !strings.ContainsAny(s, " <>\"{}|\\^`")
}
