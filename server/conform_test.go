package server_test

import (
	"bytes"
	"fmt"
	"mime"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// document is openapi.json, with schemas compiled on demand.
type document struct {
	root     map[string]any
	compiler *jsonschema.Compiler

	mu      sync.Mutex
	schemas map[string]*jsonschema.Schema
	seen    map[string]bool // operations that answered 2xx
}

const documentURL = "https://switchhook.test/openapi.json"

var openapi = sync.OnceValue(func() *document {
	source, err := os.ReadFile("openapi.json")
	if err != nil {
		panic(err)
	}
	root, err := jsonschema.UnmarshalJSON(bytes.NewReader(source))
	if err != nil {
		panic(err)
	}
	d := &document{root: root.(map[string]any), compiler: jsonschema.NewCompiler(), schemas: map[string]*jsonschema.Schema{}, seen: map[string]bool{}}
	d.compiler.AssertFormat()
	if err := d.compiler.AddResource(documentURL, root); err != nil {
		panic(err)
	}
	return d
})

// place is a part of the document and its path.
type place struct {
	d      *document
	tokens []string
	value  any
}

func (d *document) at(tokens ...string) place { return place{d: d, value: d.root}.at(tokens...) }

// at returns a descendant, following references; value is nil if there is none.
func (p place) at(tokens ...string) place {
	for _, token := range tokens {
		object, _ := p.value.(map[string]any)
		p = place{p.d, append(p.tokens[:len(p.tokens):len(p.tokens)], token), object[token]}
		if object, ok := p.value.(map[string]any); ok {
			if ref, ok := object["$ref"].(string); ok && len(object) == 1 {
				p = p.d.at(strings.Split(strings.TrimPrefix(ref, "#/"), "/")...)
			}
		}
	}
	return p
}

func (p place) exists() bool { return p.value != nil }

// names returns the members, unordered.
func (p place) names() (list []string) {
	object, _ := p.value.(map[string]any)
	for name := range object {
		list = append(list, name)
	}
	return list
}

// schema compiles the schema at this place.
func (p place) schema() (*jsonschema.Schema, error) {
	fragment := ""
	for _, token := range p.tokens {
		fragment += "/" + url.PathEscape(strings.NewReplacer("~", "~0", "/", "~1").Replace(token))
	}
	p.d.mu.Lock()
	defer p.d.mu.Unlock()
	if s := p.d.schemas[fragment]; s != nil {
		return s, nil
	}
	s, err := p.d.compiler.Compile(documentURL + "#" + fragment)
	p.d.schemas[fragment] = s
	return s, err
}

// validate checks a JSON text against the schema at this place.
func (p place) validate(body []byte) error {
	s, err := p.schema()
	if err != nil {
		return err
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	if err != nil {
		return err
	}
	return s.Validate(value)
}

// operation returns the document's path that matches a request's path.
func (d *document) operation(path string) (template string, ok bool) {
	path, _, _ = strings.Cut(path, "?")
	for _, noun := range []string{"subscription", "event-type", "event", "script", "key", "replay", "account"} {
		path = strings.Replace(path, "/api/v1/"+noun+"/", "/api/v1/"+noun+"s/", 1)
		if path == "/api/v1/"+noun {
			path += "s"
		}
	}
	path = strings.Replace(path, "/api/v1/delivery/", "/api/v1/deliveries/", 1)
	if path == "/api/v1/delivery" {
		path = "/api/v1/deliveries"
	}
	parts := strings.Split(strings.TrimSuffix(path, "/"), "/")
	for _, template := range d.at("paths").names() {
		wanted := strings.Split(strings.TrimSuffix(template, "/"), "/")
		fits := len(parts) == len(wanted)
		for i := 0; fits && i < len(parts); i++ {
			fits = parts[i] == wanted[i] || strings.HasPrefix(wanted[i], "{") && parts[i] != ""
		}
		if fits {
			return template, true
		}
	}
	return "", false
}

// conforms checks a response against the document. It runs for every response of every test.
func conforms(t testing.TB, method, path string, a *answer) {
	t.Helper()
	if err := openapi().check(method, path, a); err != nil {
		t.Errorf("%s, %d: %v: %.1000s", a.what, a.status, err, a.body)
	}
}

func (d *document) check(method, path string, a *answer) error {
	for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer"} {
		if got := a.header.Get(name); got != want {
			return fmt.Errorf("%s is %q", name, got)
		}
	}
	head := method == "HEAD"
	if head {
		method = "GET"
	}
	if method == "OPTIONS" && a.status == 204 {
		if len(a.body) > 0 {
			return fmt.Errorf("there is a body")
		}
		return nil
	}
	template, known := d.operation(path)
	described := d.at("paths", template, strings.ToLower(method))
	if !known || !described.exists() {
		if a.status != 404 && a.status != 405 {
			return fmt.Errorf("is not described")
		}
		described = place{}
	}
	media, _, err := mime.ParseMediaType(a.header.Get("Content-Type"))
	if a.status >= 400 {
		if media != "application/problem+json" {
			return fmt.Errorf("an error of type %q", media)
		}
		if title := a.header.Get("Www-Authenticate"); (a.status == 401) != (title != "") {
			return fmt.Errorf("WWW-Authenticate is %q", title)
		}
	}
	if described.d == nil || a.status == 431 || a.status == 429 && strings.Contains(string(a.body), "wrong API keys") { // possible for every request
		return d.at("components", "schemas", "Problem").validate(a.body)
	}
	response := described.at("responses", strconv.Itoa(a.status))
	if !response.exists() {
		return fmt.Errorf("the status is not described")
	}
	for _, name := range response.at("headers").names() {
		h := response.at("headers", name)
		value := a.header.Get(name)
		if required, _ := h.at("required").value.(bool); required && value == "" {
			return fmt.Errorf("the header %s is missing", name)
		}
		if value != "" {
			if err := h.at("schema").validate([]byte(strconv.Quote(value))); err != nil {
				return fmt.Errorf("the header %s: %w", name, err)
			}
		}
	}
	for _, name := range []string{"Etag", "Location", "Retry-After", "Idempotent-Replayed"} {
		if a.header.Get(name) != "" && !hasHeader(response, name) {
			return fmt.Errorf("the header %s is not described", name)
		}
	}
	if a.status < 300 {
		d.mu.Lock()
		d.seen[method+" "+template] = true
		d.mu.Unlock()
	}
	if a.status == 204 || a.status == 304 || head {
		if len(a.body) > 0 {
			return fmt.Errorf("there is a body")
		}
		return nil
	}
	content := response.at("content", media)
	if err != nil || !content.exists() {
		return fmt.Errorf("the media type %q is not described", media)
	}
	if media == "application/x-ndjson" { // the schema is that of a line
		for line := range bytes.Lines(a.body) {
			if err := content.at("schema").validate(line); err != nil {
				return fmt.Errorf("the line %.300s: %w", line, err)
			}
		}
		return nil
	}
	if strings.HasSuffix(media, "json") {
		return content.at("schema").validate(a.body)
	}
	return nil
}

func hasHeader(response place, name string) bool {
	for _, described := range response.at("headers").names() {
		if strings.EqualFold(described, name) {
			return true
		}
	}
	return false
}
