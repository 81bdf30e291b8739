package cloudevents

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"
)

// HTTP binding 1.0.2, 3.1.3.2: "Space (U+0020), Double-quote (U+0022), Percent (U+0025), any
// characters outside the printable ASCII range of U+0021-U+007E inclusive" MUST be encoded,
// as the bytes of their UTF-8, in upper case.
func TestCloudEventsHeadersAreEncoded(t *testing.T) {
	for in, want := range map[string]string{
		"Euro € 😀":         "Euro%20%E2%82%AC%20%F0%9F%98%80", // the example of the specification
		"":                 "",
		`say "hi"`:         "say%20%22hi%22",
		"100%":             "100%25",
		"%20":              "%2520", // one round, so that a receiver gets back what was given
		"a\r\nX: y":        "a%0D%0AX:%20y",
		"\x00\x1f\x7f":     "%00%1F%7F",
		"ÿ":                "%C3%BF",
		"!#$&'()*+,-./:;<": "!#$&'()*+,-./:;<",
		"\xff":             "%EF%BF%BD", // %FF would be refused
	} {
		if got := encodeField(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
	for c := rune(0); c < 0x180; c++ { // every character there, and its first byte
		got := encodeField(string(c))
		if plain := c >= 0x21 && c <= 0x7e && c != '"' && c != '%'; plain != (got == string(c)) || got != strings.ToUpper(got) && !plain {
			t.Errorf("%U: got %q", c, got)
		}
	}
}

var at = time.Date(2026, 1, 31, 9, 30, 0, 250e6, time.UTC)

func TestCloudEventsNameTheirEvent(t *testing.T) {
	for _, c := range []struct {
		name string
		ev   Stored
		want map[string]string
	}{
		{"ours", Stored{ID: "evt_2000000000000"}, map[string]string{"id": "evt_2000000000000", "source": "/here/accounts/acme"}},
		// A publisher's id may look like the router's id of another event.
		{"ours, with the publisher's id", Stored{ID: "evt_2000000000000", Key: "evt_3000000000000"}, map[string]string{"id": "evt_2000000000000", "source": "/here/accounts/acme"}},
		{"a CloudEvent's", Stored{ID: "evt_2000000000000", Key: "A 1", Headers: map[string]string{
			"ce-source": "https://crm.example/x?a#b", "ce-subject": "Euro €", "ce-dataschema": "https://crm.example/s", "ce-datacontenttype": "application/json", "ce-traceparent": "00-1", "X-Shop": "7",
		}}, map[string]string{"id": "A 1", "source": "https://crm.example/x?a#b", "subject": "Euro €", "dataschema": "https://crm.example/s", "traceparent": "00-1"}},
		// What a publisher writes into the headers of an event can't be made to look like more.
		{"headers that are no attributes", Stored{ID: "evt_2000000000000", Key: "1", Headers: map[string]string{
			"ce-source": "no reference", "ce-id": "forged", "ce-type": "forged", "ce-specversion": "0.3", "ce-time": "forged", "ce-subject": "", "ce-Ext": "x", "ce-e-x": "x", "ce-": "x",
			"ce-dataschema": "relative", "ce-ctl": "a\r\nb", "ce-bad": "\xff", "ce-data": "x", "Ce-up": "x", "ce-datacontenttype": "text/html",
		}}, map[string]string{"id": "evt_2000000000000", "source": "/here/accounts/acme"}},
	} {
		c.ev.Type, c.ev.Account, c.ev.Time, c.ev.Data = "order.created", "acme", at, []byte(`{"a": 1.0}`)
		c.want["specversion"], c.want["type"], c.want["time"], c.want["datacontenttype"] = "1.0", "order.created", "2026-01-31T09:30:00.25Z", "application/json"
		body := c.ev.Structured("/here")
		var got map[string]json.RawMessage
		if err := json.Unmarshal(body, &got); err != nil {
			t.Fatalf("%s: %v: %s", c.name, err, body)
		}
		if string(got["data"]) != `{"a": 1.0}` || len(got) != len(c.want)+1 {
			t.Errorf("%s: %s", c.name, body)
		}
		for name, want := range c.want {
			var text string
			if json.Unmarshal(got[name], &text); text != want {
				t.Errorf("%s: %s is %s, want %q", c.name, name, got[name], want)
			}
		}
		h := http.Header{}
		for _, a := range c.ev.Fields("/here") {
			h.Set(a.Name, a.Value)
		}
		delete(c.want, "datacontenttype") // MUST NOT be a header
		if len(h) != len(c.want) {
			t.Errorf("%s: headers %v", c.name, h)
		}
		for name, want := range c.want {
			if h.Get("ce-"+name) != encodeField(want) {
				t.Errorf("%s: ce-%s is %q", c.name, name, h.Get("ce-"+name))
			}
		}
	}
}

func TestCloudEventsData(t *testing.T) {
	for _, c := range []struct {
		contentType, encoding, data string
		member                      string // of the structured form
		body, mediaType             string // of the binary one
	}{
		{"", "", `[1]`, `"datacontenttype":"application/json","data":[1]}`, `[1]`, "application/json"},
		{"application/vnd.x+json; v=1", "", `[1]`, `"datacontenttype":"application/vnd.x+json; v=1","data":[1]}`, `[1]`, "application/vnd.x+json; v=1"},
		{"application/json", "", `null`, `"datacontenttype":"application/json","data":null}`, `null`, "application/json"},
		{"text/plain", "", `"a\u00fc\n"`, `"datacontenttype":"text/plain","data":"a\u00fc\n"}`, "aü\n", "text/plain"},
		{"image/png", "base64", `"AP8="`, `"datacontenttype":"image/png","data_base64":"AP8="}`, "\x00\xff", "image/png"},
		{"image/png", "base64", `"no base64"`, `"datacontenttype":"image/png","data_base64":"no base64"}`, `"no base64"`, "application/json"},
		{"text/plain", "", `{"a":1}`, `"datacontenttype":"application/json","data":{"a":1}}`, `{"a":1}`, "application/json"},
		{"a\nb", "", `1`, `"datacontenttype":"application/json","data":1}`, `1`, "application/json"},
		{"", "none", `null`, `"time":"2026-01-31T09:30:00.25Z"}`, ``, ""}, // came without data
	} {
		ev := &Stored{ID: "evt_1", Key: "1", Type: "t", Account: "a", Time: at, Data: []byte(c.data), Headers: map[string]string{"ce-source": "/s"}}
		if c.contentType != "" {
			ev.Headers["ce-datacontenttype"] = c.contentType
		}
		if c.encoding == "base64" {
			ev.Headers["ce-data-encoding"] = c.encoding
		}
		if got := string(ev.Structured("/here")); !strings.HasSuffix(got, c.member) || !json.Valid([]byte(got)) {
			t.Errorf("%+v: got %s", c, got)
		}
		if body, mediaType := ev.Binary(); string(body) != c.body || mediaType != c.mediaType {
			t.Errorf("%+v: got %q as %q", c, body, mediaType)
		}
	}
}

func TestSourcesThatAreRefused(t *testing.T) {
	for text, ok := range map[string]bool{
		"/switchhook": true, "https://example.com/events": true, "urn:x:y": true, "/": true, "": false, "a b": false, "/a?b": false, "/a#b": false, "/é": false, "%zz": false, strings.Repeat("a", 513): false,
	} {
		if err := CheckSource(text); (err == nil) != ok {
			t.Errorf("source %.20q: %v", text, err)
		}
	}
}
