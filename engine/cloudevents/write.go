package cloudevents

import (
	"encoding/base64"
	"fmt"
	"maps"
	"mime"
	"net/url"
	"slices"
	"strings"
	"time"

	"switchhook/scripts/jsonindex"
)

// CloudEvents 1.0.2 on their way out: the JSON format (structured, batched) and the binary
// mode of the HTTP protocol binding.

const (
	// DefaultSource begins the source of events that came in without one.
	DefaultSource  = "/switchhook"
	maxSourceBytes = 512

	// StructuredMedia is the Content-Type of an event in the JSON format.
	StructuredMedia = Media + "+json"
	// BatchMedia is that of an array of them.
	BatchMedia = Media + "-batch+json"

	sourceHeader   = prefix + "source"
	dataTypeHeader = prefix + "datacontenttype" // there exactly if an event that came as a CloudEvent has data
)

// Stored is an event as the router keeps it.
type Stored struct {
	ID      string // the router's, which no two events share
	Key     string // the id that the publisher gave it; empty where it gave none
	Account string
	Type    string
	Time    time.Time
	Headers map[string]string // those of Event, where it came as a CloudEvent
	Data    []byte            // JSON: that of Event
}

// CheckSource tells what is wrong with a source to which the account is to be added.
func CheckSource(source string) error {
	if !IsReference(source) || strings.ContainsAny(source, "?#") {
		return fmt.Errorf(`%.100q is not a URI or path that a source could begin with, such as "/switchhook" or "https://example.com/events"`, source)
	}
	if len(source) > maxSourceBytes {
		return fmt.Errorf("is %d bytes, %d are allowed", len(source), maxSourceBytes)
	}
	return nil
}

// IsReference reports whether s is a URI reference that is not empty (RFC 3986).
func IsReference(s string) bool {
	_, err := url.Parse(s)
	return err == nil && s != "" && strings.IndexFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune("<>\"{}|\\^`", r) }) < 0
}

// attributes lists the context attributes of ev without datacontenttype, by their names.
// Source and id together name an event: its publisher's id where it came with a source of
// its own, and otherwise the router's, which no two events share.
func (ev *Stored) attributes(source string) []Field {
	id := ev.ID
	if own := ev.Headers[sourceHeader]; ev.Key != "" && IsReference(own) {
		source, id = own, ev.Key
	} else {
		source += "/accounts/" + ev.Account
	}
	list := []Field{
		{"specversion", "1.0"}, {"id", id}, {"source", source}, {"type", ev.Type}, {"time", ev.Time.UTC().Format(time.RFC3339Nano)},
	}
	for _, header := range slices.Sorted(maps.Keys(ev.Headers)) {
		name, ok := strings.CutPrefix(header, prefix)
		value := ev.Headers[header]
		if !ok || !validAttribute(name) || value == "" || checkText(value) != "" {
			continue // a header of the publisher's that looks like one
		}
		if u, err := url.Parse(value); name == "dataschema" && (err != nil || !u.IsAbs() || !IsReference(value)) {
			continue
		}
		list = append(list, Field{name, value})
	}
	return list
}

// validAttribute reports whether name is that of an attribute that an event may bring along.
func validAttribute(name string) bool {
	switch name {
	case "", "specversion", "id", "source", "type", "time", "datacontenttype", "data":
		return false
	}
	return strings.IndexFunc(name, func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') }) < 0
}

// data tells what ev's data is: JSON, a text, bytes, or none.
func (ev *Stored) data() (contentType string, kind dataKind) {
	contentType, given := ev.Headers[dataTypeHeader]
	if !given {
		if ev.Headers[sourceHeader] != "" && string(ev.Data) == "null" {
			return "", noData
		}
		return "application/json", jsonData
	}
	media, _, err := mime.ParseMediaType(contentType)
	switch {
	case err != nil || checkText(contentType) != "":
		return "application/json", jsonData
	case media == "application/json" || media == "text/json" || strings.HasSuffix(media, "+json"):
		return contentType, jsonData
	case len(ev.Data) == 0 || ev.Data[0] != '"': // the header was no CloudEvent's
		return "application/json", jsonData
	case ev.Headers[HeaderEncoding] == "base64":
		return contentType, bytesData
	}
	return contentType, textData
}

type dataKind int

const (
	noData dataKind = iota
	jsonData
	textData  // the JSON is a string, whose characters are the data
	bytesData // the same in base64
)

// Structured is ev in the JSON format. source begins that of events without their own.
func (ev *Stored) Structured(source string) []byte {
	body := make([]byte, 0, len(ev.Data)+256)
	for i, a := range ev.attributes(source) {
		body = append(body, "{,"[min(i, 1)])
		body = append(jsonindex.AppendString(body, a.Name), ':')
		body = jsonindex.AppendString(body, a.Value)
	}
	contentType, kind := ev.data()
	if kind != noData {
		body = jsonindex.AppendString(append(body, `,"datacontenttype":`...), contentType)
		member := `,"data":`
		if kind == bytesData {
			member = `,"data_base64":`
		}
		body = append(append(body, member...), ev.Data...)
	}
	return append(body, '}')
}

// Binary is ev's data in the binary mode, and its content type, which is empty where there
// is no data.
func (ev *Stored) Binary() (body []byte, contentType string) {
	contentType, kind := ev.data()
	switch kind {
	case noData:
		return []byte{}, ""
	case jsonData:
		return ev.Data, contentType
	}
	doc, err := jsonindex.Parse(ev.Data, jsonindex.Limits{})
	if err != nil {
		return ev.Data, "application/json"
	}
	text := doc.Root().Text()
	if kind == textData {
		return []byte(text), contentType
	}
	if raw, err := base64.StdEncoding.DecodeString(text); err == nil {
		return raw, contentType
	}
	return ev.Data, "application/json"
}

// Fields gives the headers of the binary mode. source is that of Structured.
func (ev *Stored) Fields(source string) []Field {
	list := ev.attributes(source)
	for i, a := range list {
		list[i] = Field{prefix + a.Name, encodeField(a.Value)}
	}
	return list
}

// encodeField percent-encodes an attribute for a header (HTTP binding 1.0.2, 3.1.3.2):
// space, double quote, percent sign and whatever is no visible ASCII character.
func encodeField(s string) string {
	const hex = "0123456789ABCDEF"
	s = strings.ToValidUTF8(s, "\uFFFD") // a receiver must refuse anything else
	var b []byte
	for i := range len(s) {
		c := s[i]
		if c > ' ' && c <= '~' && c != '"' && c != '%' {
			b = append(b, c)
			continue
		}
		b = append(b, '%', hex[c>>4], hex[c&15])
	}
	return string(b)
}
