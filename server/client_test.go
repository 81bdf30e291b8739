package server_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
)

// client calls the API with one API key.
type client struct {
	t          testing.TB
	url        string
	key, keyID string
	http       *http.Client
}

// with returns the client for a subtest or another key.
func (c *client) with(t testing.TB, key string) *client {
	other := *c
	other.t, other.key = t, key
	return &other
}

func (c *client) in(t testing.TB) *client { return c.with(t, c.key) }

func (c *client) get(path string, headers ...string) *answer {
	c.t.Helper()
	return c.do("GET", path, nil, headers...)
}

func (c *client) post(path string, body any, headers ...string) *answer {
	c.t.Helper()
	return c.do("POST", path, body, headers...)
}

// do sends a request: a string is the body itself, any other value is encoded as JSON. headers are
// alternating names and values. Every response must match openapi.json.
func (c *client) do(method, path string, body any, headers ...string) *answer {
	c.t.Helper()
	var content []byte
	switch b := body.(type) {
	case nil:
	case string:
		content = []byte(b)
	default:
		var err error
		content, err = json.Marshal(b)
		must(c.t, err)
	}
	req, err := http.NewRequest(method, c.url+path, bytes.NewReader(content))
	must(c.t, err)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.key != "" {
		req.Header.Set("Authorization", "Bearer "+c.key)
	}
	for i := 0; i < len(headers); i += 2 {
		if i > 0 && headers[i] == headers[i-2] { // a repeated header
			req.Header.Add(headers[i], headers[i+1])
			continue
		}
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := c.http.Do(req)
	if err != nil {
		c.t.Fatalf("%s %.100s: %v", method, path, err)
	}
	defer res.Body.Close()
	a := &answer{t: c.t, what: fmt.Sprintf("%s %.100s", method, path), status: res.StatusCode, header: res.Header}
	a.body, err = io.ReadAll(res.Body)
	must(c.t, err)
	conforms(c.t, method, path, a)
	return a
}

// answer is a response.
type answer struct {
	t      testing.TB
	what   string
	status int
	header http.Header
	body   []byte
}

// want fails the test unless the response has this status.
func (a *answer) want(status int) *answer {
	a.t.Helper()
	if a.status != status {
		a.t.Fatalf("%s: want %d, got %d: %.500s", a.what, status, a.status, a.body)
	}
	return a
}

// refused requires a problem with this status and field, and this text in its detail.
func (a *answer) refused(status int, field, detail string) *answer {
	a.t.Helper()
	if a.status != status {
		a.t.Errorf("%s: want %d, got %d: %.500s", a.what, status, a.status, a.body)
		return a
	}
	if got := a.header.Get("Content-Type"); got != "application/problem+json" {
		a.t.Errorf("%s: the error's Content-Type is %q", a.what, got)
	}
	if got, _ := a.at("field").(string); got != field {
		a.t.Errorf("%s: want field %q, got %q: %.500s", a.what, field, got, a.body)
	}
	if got := a.text("detail"); !strings.Contains(got, detail) {
		a.t.Errorf("%s: want %q in the detail, got %q", a.what, detail, got)
	}
	return a
}

// fieldCode checks the code of the first wrong member.
func (a *answer) fieldCode(code string) {
	a.t.Helper()
	if got, _ := a.at("errors.0.code").(string); got != code {
		a.t.Errorf("%s: want the code %q in errors, got %q: %.500s", a.what, code, got, a.body)
	}
}

// at returns the body's value at a path such as "data.0.id"; nil if there is none.
func (a *answer) at(path string) any {
	a.t.Helper()
	dec := json.NewDecoder(bytes.NewReader(a.body))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		a.t.Fatalf("%s: the body is not JSON: %v: %.500s", a.what, err, a.body)
	}
	return within(v, path)
}

// within returns the value at a path of a decoded value.
func within(v any, path string) any {
	for name := range strings.SplitSeq(path, ".") {
		switch parent := v.(type) {
		case map[string]any:
			v = parent[name]
		case []any:
			i, err := strconv.Atoi(name)
			if err != nil || i >= len(parent) {
				return nil
			}
			v = parent[i]
		default:
			return nil
		}
	}
	return v
}

// text returns the string at a path.
func (a *answer) text(path string) string {
	a.t.Helper()
	s, ok := a.at(path).(string)
	if !ok {
		a.t.Fatalf("%s: no string at %s: %.500s", a.what, path, a.body)
	}
	return s
}

// shows requires values at paths; values are compared as they print.
func (a *answer) shows(want map[string]any) *answer {
	a.t.Helper()
	for path, value := range want {
		if got := a.at(path); fmt.Sprint(got) != fmt.Sprint(value) {
			a.t.Errorf("%s: want %v at %s, got %v", a.what, value, path, got)
		}
	}
	return a
}

// column returns one member of each entry of a list.
func (a *answer) column(name string) []string {
	a.t.Helper()
	list, ok := a.at("data").([]any)
	if !ok {
		a.t.Fatalf("%s: no list: %.500s", a.what, a.body)
	}
	names := []string{}
	for _, entry := range list {
		names = append(names, fmt.Sprint(within(entry, name)))
	}
	return names
}

// pages reads all pages of a list and returns one member of each entry; path has a query.
func (c *client) pages(path, name string) (all []string) {
	c.t.Helper()
	for cursor := ""; ; {
		a := c.get(path + cursor).want(200)
		all = append(all, a.column(name)...)
		next, more := a.at("next_cursor").(string)
		if !more {
			return all
		}
		if len(all) > 10_000 {
			c.t.Fatalf("%s never ends", path)
		}
		cursor = "&cursor=" + next
	}
}

// subscribe creates a subscription to a target and returns its id.
func (c *client) subscribe(event, url string, more ...map[string]any) string {
	c.t.Helper()
	body := map[string]any{"event": event, "target_url": url}
	for _, m := range more {
		for k, v := range m {
			body[k] = v
		}
	}
	return c.post("/api/v1/subscriptions?allow_duplicates=true", body).want(201).text("id")
}

// publish publishes an event and returns its id.
func (c *client) publish(event string, data any) string {
	c.t.Helper()
	return c.post("/api/v1/events", map[string]any{"type": event, "data": data}).want(202).text("id")
}
