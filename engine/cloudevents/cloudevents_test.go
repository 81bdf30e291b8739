package cloudevents_test

import (
	"errors"
	"maps"
	"strings"
	"testing"

	"switchhook/engine/cloudevents"
	"switchhook/scripts/jsonindex"
)

// read reads an event in the JSON format; the members given replace those of a plain one,
// and the empty string takes a member away.
func read(members map[string]string) (*cloudevents.Event, error) {
	all := map[string]string{"specversion": `"1.0"`, "id": `"1"`, "source": `"/s"`, "type": `"a.b"`}
	maps.Copy(all, members)
	parts := []string{}
	for name, value := range all {
		if value != "" {
			parts = append(parts, `"`+name+`":`+value)
		}
	}
	doc, err := jsonindex.Parse([]byte("{"+strings.Join(parts, ",")+"}"), jsonindex.Limits{})
	if err != nil {
		return nil, err
	}
	return cloudevents.ReadJSON(doc.Root())
}

// readFields reads an event in binary mode, likewise.
func readFields(fields map[string]string, contentType, body string) (*cloudevents.Event, error) {
	all := map[string]string{"Ce-Specversion": "1.0", "Ce-Id": "1", "Ce-Source": "/s", "Ce-Type": "a.b", "User-Agent": "x%zz"}
	maps.Copy(all, fields)
	list := []cloudevents.Field{}
	for name, value := range all {
		if value != "-" {
			list = append(list, cloudevents.Field{Name: name, Value: value})
		}
	}
	return cloudevents.ReadBinary(list, contentType, []byte(body))
}

func refused(t *testing.T, what string, err error, field, message string) {
	t.Helper()
	var wrong *cloudevents.Error
	if !errors.As(err, &wrong) || wrong.Field != field || !strings.Contains(wrong.Message, message) {
		t.Errorf("%s: want %q at %q, got %v", what, message, field, err)
	}
}

// HTTP binding 1.0.2, section 3: the Content-Type's beginning tells the mode, whatever its case.
func TestTheModeIsInTheContentType(t *testing.T) {
	for contentType, want := range map[string]struct {
		mode            cloudevents.Mode
		format, charset string
	}{
		"application/cloudevents+json":                        {cloudevents.Structured, "+json", ""},
		"Application/CloudEvents+JSON; charset=UTF-8":         {cloudevents.Structured, "+json", "utf-8"},
		"application/cloudevents":                             {cloudevents.Structured, "", ""},
		"application/cloudevents+avro":                        {cloudevents.Structured, "+avro", ""},
		"application/cloudevents-batch+json":                  {cloudevents.Batched, "+json", ""},
		`APPLICATION/CLOUDEVENTS-BATCH+JSON;CHARSET="latin1"`: {cloudevents.Batched, "+json", "latin1"},
		"application/cloudevents-batch":                       {cloudevents.Batched, "", ""},
		"application/json":                                    {},
		"text/plain; x=application/cloudevents":               {},
		"application/cloudevent+json":                         {},
		"":                                                    {},
	} {
		mode, format, charset := cloudevents.ModeOf(contentType)
		if mode != want.mode || format != want.format || charset != want.charset {
			t.Errorf("%q: mode %v, format %q, charset %q", contentType, mode, format, charset)
		}
	}
}

// HTTP binding 1.0.2, 3.1.3.2.
func TestHeadersAreDecoded(t *testing.T) {
	for raw, want := range map[string]string{
		"Euro%20%E2%82%AC%20%F0%9F%98%80": "Euro € 😀", // the example of the specification
		"%e2%82%ac":                       "€",        // lower case MUST be accepted
		"%41%2D%7e":                       "A-~",      // needless encoding MUST be accepted
		"%2525":                           "%25",      // a single round
		`"Euro € 😀"`:                      "Euro € 😀", // a quoted string MUST be supported
		`"a \"b\" \\ c"`:                  `a "b" \ c`,
		`"a%20b"`:                         "a b", // unquoted first, then decoded
		`"%22a%22"`:                       `"a"`, // and what was decoded stays
		`x"y z"w`:                         "xy zw",
		`5" wide`:                         `5" wide`, // nothing closes it
		`"open\`:                          `"open\`,
		"Euro € 😀":                        "Euro € 😀", // as the SDKs send it
		"caf\xe9 \xfc%20%E2%82%AC":        "café ü €", // as Node does
		"\xc0\xa0":                        "À\u00a0",
		"100%":                            "100%",
		"50% off%2":                       "50% off%2",
		"%zz%4g":                          "%zz%4g",
		"plain":                           "plain",
	} {
		ev, err := readFields(map[string]string{"Ce-Subject": raw}, "", "")
		if err != nil || ev.Headers["ce-subject"] != want {
			t.Errorf("%q: %v %v", raw, ev, err)
		}
	}
	for raw, message := range map[string]string{
		"%C0%A0":       "is not valid UTF-8", // an overlong space MUST be rejected
		"%ED%A0%80":    "is not valid UTF-8", // a surrogate
		"%FF":          "is not valid UTF-8",
		"a%E2%82":      "is not valid UTF-8",
		"\x85\xff":     "control character U+0085",
		"a%0d%0aX: y":  "control character U+000D",
		"%00":          "control character",
		"%C2%85":       "control character U+0085",
		"%7F":          "control character",
		"%EF%BF%BF":    "U+FFFF",
		"%EF%B7%90":    "U+FDD0",
		"%F0%9F%BF%BE": "U+1FFFE",
	} {
		_, err := readFields(map[string]string{"Ce-Subject": raw}, "", "")
		refused(t, raw, err, "ce-subject", message)
	}
}

// CloudEvents 1.0.2, "Required Attributes", and the JSON format.
func TestWhatAnEventMustHave(t *testing.T) {
	for _, name := range []string{"specversion", "id", "source", "type"} {
		for value, message := range map[string]string{"": "is missing", "null": "is missing", `""`: "must not be empty", "5": "must be a string", "{}": "must be a string"} {
			_, err := read(map[string]string{name: value})
			refused(t, name+" "+value, err, name, message)
		}
		header := "Ce-" + strings.ToUpper(name[:1]) + name[1:]
		_, err := readFields(map[string]string{header: "-"}, "", "")
		refused(t, header, err, "ce-"+name, "is missing")
		_, err = readFields(map[string]string{header: ""}, "", "")
		refused(t, header, err, "ce-"+name, "must not be empty")
	}
	for _, version := range []string{"0.3", "1.1", "1", "2.0"} {
		_, err := read(map[string]string{"specversion": `"` + version + `"`})
		refused(t, version, err, "specversion", `takes CloudEvents "1.0"`)
	}
	if ev, err := read(map[string]string{"id": `"Euro € 1"`, "source": `"https://github.com/cloudevents?a=b#c"`, "type": `"com.example.object.deleted.v2"`}); err != nil || ev.ID != "Euro € 1" || ev.Type != "com.example.object.deleted.v2" {
		t.Error(ev, err)
	}
}

func TestAttributesAreHeldAgainstTheirTypes(t *testing.T) {
	for name, values := range map[string][]string{
		"source":          {`"a b"`, `"http://[::1"`, `"%zz"`, `"<x>"`},
		"time":            {`"now"`, `"2018-04-05"`, `"2018-13-05T03:56:24Z"`, `"2018-04-05T03:56:24"`, `""`, `5`},
		"dataschema":      {`"/relative"`, `""`, `"a b"`},
		"subject":         {`""`, `"a\nb"`, `"\u0000"`, `5`},
		"datacontenttype": {`""`, `"json"`, `"a/b; c"`, `5`},
		"myext":           {`{}`, `[1]`, `1.5`, `1e3`, `2147483648`, `-2147483649`},
		"myExt":           {`"x"`}, "my-ext": {`"x"`}, "my_ext": {`"x"`}, "ex.t": {`1`}, "ünder": {`true`},
	} {
		for _, value := range values {
			_, err := read(map[string]string{name: value})
			refused(t, name+" "+value, err, name, "")
		}
	}
	ev, err := read(map[string]string{
		"time": `"2018-04-05t17:31:00.5+02:00"`, "dataschema": `"urn:x:1"`, "subject": "null",
		"text": `""`, "yes": "true", "no": "false", "number": "-7", "least": "-2147483648", "unset": "null", "verylongextensionnamesareallowed": `"x"`,
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := ev.Time.UTC().Format("15:04:05.0"); got != "15:31:00.5" {
		t.Errorf("the time is %s", got)
	}
	if want := map[string]string{
		"ce-source": "/s", "ce-dataschema": "urn:x:1", "ce-text": "", "ce-yes": "true", "ce-no": "false", "ce-number": "-7",
		"ce-least": "-2147483648", "ce-verylongextensionnamesareallowed": "x",
	}; !maps.Equal(ev.Headers, want) {
		t.Errorf("headers %v", ev.Headers)
	}
	for name, message := range map[string]string{"Ce-Datacontenttype": "must not be there", "Ce-Data": "is not an attribute", "Ce-My-Ext": "is not a name", "ce-": "is not a name", "CE-ID": "is given twice"} {
		_, err := readFields(map[string]string{name: "x"}, "", "")
		refused(t, name, err, strings.ToLower(name), message)
	}
}

// JSON format 1.0.2, 3.1.2, and what we make of data that is not JSON.
func TestDataBecomesJSON(t *testing.T) {
	type result struct{ data, content, encoding string }
	for _, c := range []struct {
		data, base64, content string
		want                  result
	}{
		{`{"a":1.0}`, "", "", result{`{"a":1.0}`, "application/json", ""}},
		{`"I'm just a string"`, "", "", result{`"I'm just a string"`, "application/json", ""}},
		{`"{}"`, "", "application/json", result{`"{}"`, "application/json", ""}}, // MUST NOT be read further
		{`null`, "", "", result{`null`, "application/json", ""}},
		{"", "", "", result{`null`, "", ""}},
		{`[1]`, "", "application/vnd.x+json; v=2", result{`[1]`, "application/vnd.x+json; v=2", ""}},
		{`1`, "", "text/json", result{`1`, "text/json", ""}},
		{`"<much wow=\"xml\"/>"`, "", "application/xml", result{`"<much wow=\"xml\"/>"`, "application/xml", ""}},
		{"", "eyJhIjoxfQ==", "application/json", result{`{"a":1}`, "application/json", ""}},
		{"", "PGEvPg==", "text/xml", result{`"<a/>"`, "text/xml", ""}},
		{"", "/w==", "text/plain", result{`"/w=="`, "text/plain", "base64"}},
		{"", "AAH/", "image/png", result{`"AAH/"`, "image/png", "base64"}},
		{"", "", "image/png", result{`null`, "", ""}},
	} {
		members := map[string]string{"data": c.data}
		if c.base64 != "" {
			members["data_base64"] = `"` + c.base64 + `"`
		}
		if c.content != "" {
			members["datacontenttype"] = `"` + c.content + `"`
		}
		ev, err := read(members)
		if err != nil {
			t.Errorf("%v: %v", c, err)
			continue
		}
		if got := (result{string(ev.Data.Raw()), ev.Headers["ce-datacontenttype"], ev.Headers[cloudevents.HeaderEncoding]}); got != c.want {
			t.Errorf("%v: got %q", c, got)
		}
	}
	for _, c := range []struct {
		field, message string
		members        map[string]string
	}{
		{"data_base64", "and data are both there", map[string]string{"data": "1", "data_base64": `"AA=="`}},
		{"data_base64", "must be a string of base64", map[string]string{"data_base64": `"A"`}},
		{"data_base64", "must be a string of base64", map[string]string{"data_base64": `5`}},
		{"data_base64", "holds no JSON", map[string]string{"data_base64": `"AAH/"`}},
		{"data", "must be a string, since datacontenttype", map[string]string{"data": `{}`, "datacontenttype": `"text/plain"`}},
	} {
		_, err := read(c.members)
		refused(t, c.message, err, c.field, c.message)
	}
	for _, c := range []struct {
		contentType, body string
		want              result
	}{
		{"application/json; charset=utf-8", `{"a":"<"}`, result{`{"a":"<"}`, "application/json; charset=utf-8", ""}},
		{"", `{"a":1}`, result{`{"a":1}`, "application/json", ""}},
		{"TEXT/Plain", `a "b" <ü>`, result{`"a \"b\" <ü>"`, "TEXT/Plain", ""}},
		{"text/plain; charset=iso-8859-1", "ü", result{`"w7w="`, "text/plain; charset=iso-8859-1", "base64"}},
		{"application/octet-stream", "\x00\xff", result{`"AP8="`, "application/octet-stream", "base64"}},
		{"application/x-protobuf", "abc", result{`"YWJj"`, "application/x-protobuf", "base64"}},
		{"text/plain", "", result{`null`, "", ""}},
	} {
		ev, err := readFields(nil, c.contentType, c.body)
		if err != nil {
			t.Errorf("%v: %v", c, err)
			continue
		}
		if got := (result{string(ev.Data.Raw()), ev.Headers["ce-datacontenttype"], ev.Headers[cloudevents.HeaderEncoding]}); got != c.want {
			t.Errorf("%v: got %q", c, got)
		}
	}
	_, err := readFields(nil, "application/json", `{"a"`)
	var syntax *jsonindex.SyntaxError
	if !errors.As(err, &syntax) {
		t.Errorf("bad JSON: %v", err)
	}
	_, err = readFields(nil, "no type", "x")
	refused(t, "Content-Type", err, "Content-Type", "is not a media type")
}

func FuzzReadBinary(f *testing.F) {
	f.Add(`"a%20`, "text/plain", []byte("x"))
	f.Fuzz(func(t *testing.T, subject, contentType string, body []byte) {
		ev, err := cloudevents.ReadBinary([]cloudevents.Field{
			{Name: "ce-id", Value: "1"}, {Name: "ce-source", Value: "/"}, {Name: "ce-type", Value: "t"}, {Name: "ce-specversion", Value: "1.0"}, {Name: "ce-subject", Value: subject},
		}, contentType, body)
		if err != nil {
			return
		}
		if _, err := jsonindex.Parse(ev.Data.Raw(), jsonindex.Limits{}); err != nil {
			t.Errorf("%q %q %q became %q", subject, contentType, body, ev.Data.Raw())
		}
		for name, value := range ev.Headers {
			if strings.ContainsAny(value, "\r\n\x00") {
				t.Errorf("%s is %q", name, value)
			}
		}
	})
}
