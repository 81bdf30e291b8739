package engine

import (
	"encoding/json"
	"time"
)

// payload makes the body of a delivery without a transform, and its content type. The
// data stands in it byte for byte as it was published.
func payload(format PayloadFormat, ev *Event) (body []byte, contentType string) {
	if format == FormatData {
		return ev.Data, "application/json"
	}
	body = make([]byte, 0, len(ev.Data)+len(ev.Type)+64)
	body = append(body, `{"type":`...)
	body = appendJSONString(body, ev.Type)
	body = append(body, `,"timestamp":`...)
	body = appendJSONTime(body, ev.Time)
	body = append(body, `,"data":`...)
	body = append(body, ev.Data...)
	return append(body, '}'), "application/json"
}

func appendJSONTime(b []byte, t time.Time) []byte {
	return append(t.UTC().AppendFormat(append(b, '"'), time.RFC3339Nano), '"')
}

// appendJSONString quotes s; event types need no escapes, so that the slow way is rare.
func appendJSONString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c > '~' {
			quoted, _ := json.Marshal(s)
			return append(b, quoted...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}
