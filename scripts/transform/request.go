package transform

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"switchhook/scripts"
	"switchhook/scripts/suggest"
	"switchhook/scripts/weburl"

	"github.com/dop251/goja"
)

const (
	maxPath    = 4 << 10  // bytes of a path that a script sets
	maxHeaders = 100      // headers and query parameters that a script may set
	maxHeader  = 8 << 10  // bytes of a header's or parameter's value
	maxFields  = 32 << 10 // bytes of all headers, and of the whole query
)

// methods lists the methods that a script may set.
var methods = []string{http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete}

var requestNames = []string{"method", "path", "query", "headers"}

// request returns the transform's second argument: {method, path, query, headers}. A query
// parameter is a string, or an array of strings if it occurs more than once.
func (r *run) request(req scripts.Request) (*record, *goja.Object) {
	rec, o := r.record(requestNames, func(i int) goja.Value {
		switch i {
		case 0:
			return r.vm.ToValue(req.Method)
		case 1:
			return r.vm.ToValue(req.Path)
		case 2:
			return r.queryObject(req.Query)
		}
		return r.textMap(req.Headers)
	})
	rec.refuse = func(name string) {
		if !slices.Contains(requestNames, name) { // or it was deleted
			panic(r.vm.NewTypeError("%s", unknownMember(name)))
		}
	}
	return rec, o
}

// unknownMember returns the error message for setting an unknown request.name. Transforms of
// other products have more members.
func unknownMember(name string) string {
	shown := "request." + truncate(name)
	switch strings.ToLower(name) {
	case "url", "href", "uri", "target", "target_url", "targeturl", "host", "hostname", "port", "protocol", "origin", "endpoint":
		return shown + " can't be changed: set target_url of the subscription; a transform may set request.path and request.query"
	case "body", "payload", "data", "json":
		return shown + " is not read: return the body"
	case "timeout":
		return shown + " is not read: set policy.timeout of the subscription"
	}
	if meant := suggest.Closest(name, requestNames); meant != "" {
		return shown + " is not read: did you mean request." + meant + "?"
	}
	return shown + " is not read: the members are " + strings.Join(requestNames, ", ")
}

func (r *run) queryObject(query map[string][]string) *goja.Object {
	o := r.vm.NewObject()
	for _, name := range slices.Sorted(maps.Keys(query)) {
		values := query[name]
		if len(values) == 1 {
			_ = o.Set(name, values[0])
			continue
		}
		list := make([]any, len(values))
		for i, v := range values {
			list[i] = v
		}
		_ = o.Set(name, r.vm.NewArray(list...))
	}
	return o
}

// changed reads the request back and stores it in the result if the script changed it.
func (r *run) changed(rec *record, o *goja.Object, was scripts.Request, res *scripts.Result) error {
	if !rec.opened {
		return nil
	}
	now := scripts.Request{Method: text(o.Get("method")), Path: text(o.Get("path"))}
	if now.Method != was.Method {
		now.Method = strings.ToUpper(now.Method)
		if !slices.Contains(methods, now.Method) {
			return requestError("request.method is %q, but must be one of %s", now.Method, strings.Join(methods, ", "))
		}
	}
	if now.Path != was.Path {
		if err := checkPath(now.Path); err != nil {
			return err
		}
		now.Path = weburl.EncodePath(now.Path)
	}
	var err error
	if now.Query, err = r.query(o.Get("query"), was.Query); err != nil {
		return err
	}
	if now.Headers, err = r.headers(o.Get("headers"), was.Headers); err != nil {
		return err
	}
	if now.Method == was.Method && now.Path == was.Path &&
		maps.Equal(now.Headers, was.Headers) && maps.EqualFunc(now.Query, was.Query, slices.Equal) {
		return nil
	}
	res.Request = &now
	if set := header(now.Headers, "Content-Type"); set != "" && set != header(was.Headers, "Content-Type") {
		res.ContentType = set
	}
	return nil
}

func text(v goja.Value) string {
	if v == nil || goja.IsUndefined(v) || goja.IsNull(v) {
		return ""
	}
	return strings.Clone(v.String()) // it may share the event's memory
}

func checkPath(path string) error {
	written := weburl.EncodePath(path)
	_, err := url.PathUnescape(written)
	switch {
	case len(written) > maxPath:
		return requestError("request.path is longer than %d bytes", maxPath)
	case !strings.HasPrefix(path, "/") || strings.HasPrefix(path, "//") || strings.Contains(path, `\`):
		return requestError("request.path is %q, but must start with one /", path)
	case strings.ContainsAny(path, "?#"):
		return requestError("request.path is %q: set parameters in request.query", path)
	case err != nil:
		return requestError("request.path is %q, but a %% must be escaped: use encodeURIComponent", path)
	case strings.ContainsFunc(path, func(c rune) bool { return c < ' ' || c == 0x7f }):
		return requestError("request.path is %q, but must hold no control characters", path)
	}
	return nil
}

// query reads request.query: a value is a string, number or boolean, or an array of
// them; undefined and null remove the parameter.
func (r *run) query(v goja.Value, was map[string][]string) (map[string][]string, error) {
	o, err := object(v, "request.query")
	if err != nil || o == nil {
		return nil, err
	}
	keys := o.Keys()
	if len(keys) > max(maxHeaders, len(was)) {
		return nil, requestError("request.query has more than %d parameters", maxHeaders)
	}
	query := make(map[string][]string, len(keys))
	room := maxFields
	for _, name := range keys {
		values, err := values(o.Get(name), "request.query."+name)
		if err != nil {
			return nil, err
		}
		for _, v := range values {
			room -= len(name) + len(v)
		}
		if room < 0 && !slices.Equal(values, was[name]) {
			return nil, requestError("request.query is larger than %d bytes", maxFields)
		}
		if len(values) > 0 {
			query[name] = values
		}
	}
	return same(query, was), nil
}

// same returns was instead of an equal empty map, so that nil stays nil.
func same(now, was map[string][]string) map[string][]string {
	if len(now) == 0 && len(was) == 0 {
		return was
	}
	return now
}

// values reads one value or an array of values.
func values(v goja.Value, name string) ([]string, error) {
	o, ok := v.(*goja.Object)
	if !ok || o.ClassName() != "Array" {
		s, ok, err := scalar(v, name)
		if err != nil || !ok {
			return nil, err
		}
		return []string{s}, nil
	}
	n := o.Get("length").ToInteger()
	if n > maxHeaders {
		return nil, requestError("%s has more than %d values", name, maxHeaders)
	}
	var values []string
	for i := range n {
		s, ok, err := scalar(o.Get(fmt.Sprint(i)), name)
		if err != nil {
			return nil, err
		}
		if ok {
			values = append(values, s)
		}
	}
	return values, nil
}

// scalar reads a string, number or boolean; ok is false for null and undefined.
func scalar(v goja.Value, name string) (s string, ok bool, err error) {
	if v == nil || goja.IsUndefined(v) || goja.IsNull(v) {
		return "", false, nil
	}
	switch v.(type) {
	case *goja.Object, *goja.Symbol:
		return "", false, requestError("%s must be a string", name)
	}
	if t, ok := v.(goja.String); ok && t.Length() > maxHeader {
		return "", false, requestError("%s is longer than %d bytes", name, maxHeader)
	}
	return strings.Clone(v.String()), true, nil // it may share the event's memory
}

// headers reads request.headers. Names keep their spelling; of two that differ only in case
// the one set later is used.
func (r *run) headers(v goja.Value, was map[string]string) (map[string]string, error) {
	o, err := object(v, "request.headers")
	if err != nil || o == nil {
		return nil, err
	}
	keys := o.Keys()
	if len(keys) > max(maxHeaders, len(was)) {
		return nil, requestError("request.headers has more than %d headers", maxHeaders)
	}
	headers := make(map[string]string, len(keys))
	room, changed := maxFields, len(keys) != len(was)
	for _, name := range keys {
		value, ok, err := scalar(o.Get(name), "request.headers."+name)
		if err != nil {
			return nil, err
		}
		if before, had := was[name]; ok && had && before == value {
			headers[name] = value
			continue
		}
		changed = true
		canonical := http.CanonicalHeaderKey(name)
		for old := range headers {
			if http.CanonicalHeaderKey(old) == canonical {
				delete(headers, old)
			}
		}
		if !ok {
			continue
		}
		if err := checkHeader(name, canonical, value); err != nil {
			return nil, err
		}
		if room -= len(name) + len(value); room < 0 {
			return nil, requestError("request.headers is larger than %d bytes", maxFields)
		}
		headers[name] = value
	}
	if !changed {
		return was, nil
	}
	return headers, nil
}

func checkHeader(name, canonical, value string) error {
	if name == "" || strings.ContainsFunc(name, func(c rune) bool {
		return c <= ' ' || c >= 0x7f || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, c)
	}) {
		return requestError("request.headers: %q is not a header name", truncate(name))
	}
	if scripts.ReservedHeader(name) {
		return requestError("request.headers: %s is set by the router and can't be changed", name)
	}
	if strings.ContainsFunc(value, func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f }) {
		return requestError("request.headers: the value of %s holds a control character", canonical)
	}
	return nil
}

func header(headers map[string]string, canonical string) string {
	for name, value := range headers {
		if http.CanonicalHeaderKey(name) == canonical {
			return value
		}
	}
	return ""
}

func object(v goja.Value, name string) (*goja.Object, error) {
	if v == nil || goja.IsUndefined(v) || goja.IsNull(v) {
		return nil, nil
	}
	o, ok := v.(*goja.Object)
	if !ok {
		return nil, requestError("%s must be an object", name)
	}
	return o, nil
}

func requestError(format string, args ...any) error {
	return &scripts.Error{Phase: scripts.PhaseRun, Message: fmt.Sprintf(format, args...)}
}
