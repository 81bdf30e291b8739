package engine

import (
	"encoding/base64"
	"maps"
	"mime"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"switchhook/scripts/jsondoc"
)

// CloudEvents 1.0.2: the JSON format (structured, batched) and the binary mode of the HTTP
// protocol binding. An event that came in as a CloudEvent goes out as the one that it was;
// its attributes are among its Headers, as "ce-source" and so on.

const (
	// DefaultCloudEventsSource begins the source of events that came in without one.
	DefaultCloudEventsSource = "/switchhook"
	maxSourceBytes           = 512

	ceStructured = "application/cloudevents+json"
	ceBatch      = "application/cloudevents-batch+json"
	cePrefix     = "ce-"
	ceSource     = "ce-source"
	ceDataType   = "ce-datacontenttype" // there exactly if an event that came as a CloudEvent has data
	ceEncoding   = "ce-data-encoding"   // "base64" where its data stands for bytes
)

// CheckSource tells what is wrong with a source of CloudEvents to which the account is to
// be added. Error: CodeInvalid.
func CheckSource(source string) error {
	if !isReference(source) || strings.ContainsAny(source, "?#") {
		return Invalid("", `%.100q is no URI or path that a source could begin with, such as "/switchhook" or "https://example.com/events"`, source)
	}
	if len(source) > maxSourceBytes {
		return Invalid("", "is %d bytes, %d are allowed", len(source), maxSourceBytes)
	}
	return nil
}

// isReference tells whether s is a URI reference that is not empty (RFC 3986).
func isReference(s string) bool {
	_, err := url.Parse(s)
	return err == nil && s != "" && strings.IndexFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune("<>\"{}|\\^`", r) }) < 0
}

// ceAttributes lists the context attributes of ev without datacontenttype, by their names.
// Source and id together name an event: its publisher's id where it came with a source of
// its own, and otherwise the router's, which no two events share.
func ceAttributes(source string, ev *Event) []Header {
	id := ev.ID.Format(EventPrefix)
	if own := ev.Headers[ceSource]; ev.Key != "" && isReference(own) {
		source, id = own, ev.Key
	} else {
		source += "/accounts/" + ev.Account
	}
	list := []Header{
		{"specversion", "1.0"}, {"id", id}, {"source", source}, {"type", ev.Type}, {"time", ev.Time.UTC().Format(time.RFC3339Nano)},
	}
	for _, header := range slices.Sorted(maps.Keys(ev.Headers)) {
		name, ok := strings.CutPrefix(header, cePrefix)
		value := ev.Headers[header]
		if !ok || !validAttribute(name) || value == "" || !validCEString(value) {
			continue // a header of the publisher's that looks like one
		}
		if u, err := url.Parse(value); name == "dataschema" && (err != nil || !u.IsAbs() || !isReference(value)) {
			continue
		}
		list = append(list, Header{name, value})
	}
	return list
}

// validAttribute tells whether name is that of an attribute that an event may bring along.
func validAttribute(name string) bool {
	switch name {
	case "", "specversion", "id", "source", "type", "time", "datacontenttype", "data":
		return false
	}
	return strings.IndexFunc(name, func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') }) < 0
}

// validCEString tells whether s is of the type String.
func validCEString(s string) bool {
	return utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool {
		return unicode.IsControl(r) || r >= 0xFDD0 && r <= 0xFDEF || r&0xFFFE == 0xFFFE
	}) < 0
}

// ceData tells what ev's data is: JSON, a text, bytes, or none.
func ceData(ev *Event) (contentType string, data ceDataKind) {
	contentType, given := ev.Headers[ceDataType]
	if !given {
		if ev.Headers[ceSource] != "" && string(ev.Data) == "null" {
			return "", ceNoData
		}
		return "application/json", ceJSON
	}
	media, _, err := mime.ParseMediaType(contentType)
	switch {
	case err != nil || !validCEString(contentType):
		return "application/json", ceJSON
	case media == "application/json" || media == "text/json" || strings.HasSuffix(media, "+json"):
		return contentType, ceJSON
	case len(ev.Data) == 0 || ev.Data[0] != '"': // the header was no CloudEvent's
		return "application/json", ceJSON
	case ev.Headers[ceEncoding] == "base64":
		return contentType, ceBytes
	}
	return contentType, ceText
}

type ceDataKind int

const (
	ceNoData ceDataKind = iota
	ceJSON
	ceText  // the JSON is a string, whose characters are the data
	ceBytes // the same in base64
)

// ceStructuredBody is ev in the JSON format.
func ceStructuredBody(source string, ev *Event) []byte {
	body := make([]byte, 0, len(ev.Data)+256)
	for i, a := range ceAttributes(source, ev) {
		body = append(body, "{,"[min(i, 1)])
		body = append(appendJSONString(body, a.Name), ':')
		body = appendJSONString(body, a.Value)
	}
	contentType, kind := ceData(ev)
	if kind != ceNoData {
		body = appendJSONString(append(body, `,"datacontenttype":`...), contentType)
		member := `,"data":`
		if kind == ceBytes {
			member = `,"data_base64":`
		}
		body = append(append(body, member...), ev.Data...)
	}
	return append(body, '}')
}

// ceBinaryBody is ev's data in the binary mode, and its content type, which is empty where
// there is no data.
func ceBinaryBody(ev *Event) (body []byte, contentType string) {
	contentType, kind := ceData(ev)
	switch kind {
	case ceNoData:
		return []byte{}, ""
	case ceJSON:
		return ev.Data, contentType
	}
	doc, err := jsondoc.Parse(ev.Data, jsondoc.Limits{})
	if err != nil {
		return ev.Data, "application/json"
	}
	text := doc.Root().Text()
	if kind == ceText {
		return []byte(text), contentType
	}
	if raw, err := base64.StdEncoding.DecodeString(text); err == nil {
		return raw, contentType
	}
	return ev.Data, "application/json"
}

// ceHeaders gives the headers of the binary mode.
func ceHeaders(source string, ev *Event) []Header {
	list := ceAttributes(source, ev)
	for i, a := range list {
		list[i] = Header{cePrefix + a.Name, encodeCEHeader(a.Value)}
	}
	return list
}

// encodeCEHeader percent-encodes an attribute for a header (HTTP binding 1.0.2, 3.1.3.2):
// space, double quote, percent sign and whatever is no visible ASCII character.
func encodeCEHeader(s string) string {
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
