// Package dialect parses descriptions of the subscription APIs that other services had before they used
// Switchhook: paths, member names, the place of the key, status codes, shapes of responses and of
// deliveries. Each is one YAML file. Package server serves them with the same calls as its own API; this
// package depends on no HTTP framework and makes no calls.
package dialect

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"switchhook/engine/outbound"
	"switchhook/scripts/jsonindex"
	"switchhook/scripts/yamljson"
)

// Dialect is another service's subscription API.
type Dialect struct {
	Name        string
	Description string
	Path        string // prefix of all its operations
	Key         Key
	Operations  []*Operation
	Fixed       jsonindex.Value // constant members of its subscriptions; may be missing
	Delivery    *outbound.BodyTemplate
	Errors      *Errors // nil: problem details

	file string // for messages
}

// Key says where clients put their API key, in addition to the places where the API always accepts one.
// The zero Key adds none.
type Key struct {
	Header string // such as "authcode"
	Prefix string // before the key, such as "Token "
	Query  string // name of a query parameter
}

// Action is an operation's effect.
type Action string

// The actions.
const (
	Subscribe   Action = "subscribe"
	Unsubscribe Action = "unsubscribe"
	Update      Action = "update"
	Get         Action = "get"
	List        Action = "list"
	Catalogue   Action = "catalogue"
)

var actions = []Action{Subscribe, Unsubscribe, Update, Get, List, Catalogue}

// Operation is one path with one or more methods.
type Operation struct {
	Action  Action
	Methods []string
	Path    string            // "/hooks/subscribe/{id}"
	Request map[string]string // the API's member → the client's path, with "." between nested names
	Joined  map[string]Join   // members that the client gives in parts; Request has the first part
	Unique  bool              // at most one subscription per account and event types
	Status  int
	Headers []Header  // of the response
	Answer  *Template // nil: no body
}

// Join builds one text from several members: "deal" and "added" become "deal.added".
type Join struct {
	Each  string   // the client's list of objects with the parts; empty: the body has them
	Parts []string // paths
	With  string   // separator
}

// Header is a response header.
type Header struct {
	Name  string
	Value *Template // renders to a JSON string or number; null: the header is not sent
}

// Resource returns the path of a subscription, with {id}, for Location: that of get if the dialect has it,
// or of update or unsubscribe; empty if no path has {id}.
func (d *Dialect) Resource() string {
	for _, action := range []Action{Get, Update, Unsubscribe} {
		for _, op := range d.Operations {
			if op.Action == action && strings.Contains(op.Path, "{id}") {
				return op.Path
			}
		}
	}
	return ""
}

// Errors describes error responses.
type Errors struct {
	Status map[int]int // the API's status → the dialect's
	Body   *Template   // nil: problem details
}

// Error is a mistake in a dialect's file.
type Error struct {
	File    string
	Line    int    // 0 if unknown
	Member  string // such as "operations.subscribe.path"; may be empty
	Message string
}

// Error returns the whole error in one line.
func (e *Error) Error() string {
	place := e.File
	if e.Line > 0 {
		place = fmt.Sprintf("%s:%d", place, e.Line)
	}
	if e.Member != "" {
		place += ": " + e.Member
	}
	return place + ": " + e.Message
}

// Words are the names that a dialect's file may use.
type Words struct {
	Subscription []string // members of a subscription's view
	Input        []string // members of a subscription request
	QueryKeys    bool     // keys in the query are allowed
	Reserved     []string // paths that are taken, with their subpaths; "/" without subpaths

	// CheckFixed validates constant members and returns the error and the member; empty if they are
	// valid.
	CheckFixed func(fixed jsonindex.Value) (member, wrong string)
}

var (
	nameForm    = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,39}$`)
	segmentForm = regexp.MustCompile(`^([A-Za-z0-9._~-]+|\{id\})$`)
	memberForm  = regexp.MustCompile(`^[^.\s]+(\.[^.\s]+)*$`)
	headerForm  = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)
)

// Parse parses a dialect's file. Errors are *Error.
func Parse(name string, text []byte, words Words) (*Dialect, error) {
	yaml, wrong := yamljson.Parse(text, yamljson.Limits{})
	if wrong != nil {
		return nil, &Error{File: name, Line: wrong.Line, Message: wrong.Message}
	}
	doc, err := jsonindex.Parse(yaml.JSON, jsonindex.Limits{NoDuplicates: true})
	if err != nil {
		return nil, &Error{File: name, Message: err.Error()}
	}
	r := &reader{file: name, yaml: yaml, words: words}
	d := r.dialect(doc.Root())
	if r.err != nil {
		return nil, r.err
	}
	return d, nil
}

// reader reads a file's values and keeps the first error.
type reader struct {
	file  string
	yaml  *yamljson.Doc
	words Words
	err   *Error
}

func (r *reader) wrong(v jsonindex.Value, member, format string, args ...any) {
	if r.err == nil {
		r.err = &Error{r.file, r.yaml.Line(v.Offset()), member, fmt.Sprintf(format, args...)}
	}
}

func (r *reader) dialect(root jsonindex.Value) *Dialect {
	d := &Dialect{file: r.file}
	m := r.object(root, "", "name", "description", "path", "key", "request", "operations", "fixed", "delivery", "errors")
	d.Name = r.text(m["name"], "name", nameForm, `must be a name of lower-case letters, digits and "-", 40 at most`)
	d.Description = r.anyText(m["description"], "description")
	d.Path = r.path(m["path"], "path", root)
	if strings.Contains(d.Path, "{id}") {
		r.wrong(m["path"], "path", "can't hold {id}: that is for the paths of operations")
	}
	d.Key = r.key(m["key"])
	request := r.request(m["request"], "request", mapping{})
	d.Fixed = r.fixed(m["fixed"])
	if v := m["delivery"]; v.Exists() {
		body, err := outbound.CompileBodyTemplate(v.Raw())
		if err != nil {
			r.wrong(v, "delivery", "%s", err)
		}
		d.Delivery = body
	}
	if v := m["errors"]; v.Exists() {
		d.Errors = r.errors(v)
	}
	if !m["operations"].Exists() {
		r.wrong(root, "operations", "is missing: name what there is to do, such as subscribe and unsubscribe")
	}
	known := make([]string, len(actions))
	for i, a := range actions {
		known[i] = string(a)
	}
	operations := r.object(m["operations"], "operations", known...)
	for _, action := range actions {
		if v := operations[string(action)]; v.Exists() {
			d.Operations = append(d.Operations, r.operation(v, action, d.Path, request, d.Fixed))
		}
	}
	if r.err == nil {
		r.distinct(d, m["operations"])
	}
	if r.err == nil && d.Fixed.Exists() {
		if member, wrong := r.words.CheckFixed(d.Fixed); wrong != "" {
			name, _, _ := strings.Cut(member, ".")
			r.wrong(or(d.Fixed.Get(name), d.Fixed), strings.TrimSuffix("fixed."+member, "."), "%s", wrong)
		}
	}
	return d
}

// distinct refuses operations with the same method and path.
func (r *reader) distinct(d *Dialect, at jsonindex.Value) {
	for i, a := range d.Operations {
		for _, b := range d.Operations[:i] {
			if !overlap(a.Path, b.Path) {
				continue
			}
			for _, method := range a.Methods {
				if slices.Contains(b.Methods, method) {
					r.wrong(at.Get(string(a.Action)), "operations."+string(a.Action), "%s %s is what %s has already", method, a.Path, b.Action)
				}
			}
		}
	}
}

func (r *reader) key(v jsonindex.Value) (k Key) {
	if !v.Exists() {
		return k
	}
	m := r.object(v, "key", "header", "prefix", "query")
	if h := m["header"]; h.Exists() {
		k.Header = r.text(h, "key.header", headerForm, "must be the name of a header, 100 characters at most")
	}
	k.Prefix = r.anyText(m["prefix"], "key.prefix")
	if k.Prefix != "" && k.Header == "" {
		r.wrong(m["prefix"], "key.prefix", "stands before the key in a header; name it as key.header")
	}
	if q := m["query"]; q.Exists() {
		k.Query = r.text(q, "key.query", headerForm, "must be the name of a parameter, 100 characters at most")
		if !r.words.QueryKeys {
			r.wrong(q, "key.query", "keys are not taken from addresses unless the router runs with --allow-query-key")
		}
	}
	return k
}

// id reads the member that identifies a subscription in requests whose path does not.
const id = "id"

func (r *reader) request(v jsonindex.Value, at string, otherwise mapping) mapping {
	if !v.Exists() {
		return otherwise
	}
	request := mapping{map[string]string{}, map[string]Join{}}
	for ours, theirs := range r.object(v, at, append(slices.Clip(r.words.Input), id)...) {
		if theirs.Kind() == jsonindex.Object {
			j := r.join(theirs, at+"."+ours, ours)
			if request.names[ours] = j.Each; j.Each == "" && len(j.Parts) > 0 {
				request.names[ours] = j.Parts[0]
			}
			request.joined[ours] = j
			continue
		}
		request.names[ours] = r.text(theirs, at+"."+ours, memberForm, `must be the client's name for it, with "." for a member of a member, 100 characters at most`)
	}
	return request
}

// mapping reads the member names of requests: see Operation.
type mapping struct {
	names  map[string]string
	joined map[string]Join
}

// join parses {join: [a, b], with: ".", each: list}.
func (r *reader) join(v jsonindex.Value, at, ours string) (j Join) {
	m := r.object(v, at, "join", "with", "each")
	if ours != "event" && ours != "events" {
		r.wrong(v, at, "must be the client's name for it: only event and events can be joined of parts")
	}
	const must = `must be the client's name for it, with "." for a member of a member, 100 characters at most`
	if m["join"].Kind() != jsonindex.Array || m["join"].Len() < 2 {
		r.wrong(or(m["join"], v), at+".join", "must be a list of the members to join, such as [object, action]")
	}
	for _, part := range m["join"].Elements() {
		j.Parts = append(j.Parts, r.text(part, at+".join[]", memberForm, must))
	}
	if j.With = "."; m["with"].Exists() {
		j.With = r.anyText(m["with"], at+".with")
	}
	if m["each"].Exists() {
		j.Each = r.text(m["each"], at+".each", memberForm, must)
	}
	return j
}

// fixed reads the constant members of subscriptions.
func (r *reader) fixed(v jsonindex.Value) jsonindex.Value {
	if v.Exists() {
		allowed := slices.DeleteFunc(slices.Clone(r.words.Input), func(name string) bool {
			return slices.Contains([]string{"target_url", "account", "secret"}, name)
		})
		r.object(v, "fixed", allowed...)
	}
	return v
}

var methods = []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete}

func (r *reader) operation(v jsonindex.Value, action Action, below string, request mapping, fixed jsonindex.Value) *Operation {
	at := "operations." + string(action)
	op := &Operation{Action: action, Path: below}
	members := []string{"method", "path", "request", "status", "headers", "answer"}
	if action == Subscribe {
		members = append(members, "unique")
	}
	m := r.object(v, at, members...)
	op.Methods = r.methods(or(m["method"], v), at+".method")
	if u := m["unique"]; u.Exists() {
		if op.Unique = u.Kind() == jsonindex.True; !op.Unique && u.Kind() != jsonindex.False {
			r.wrong(u, at+".unique", "must be true or false")
		}
	}
	if p := m["path"]; p.Exists() {
		op.Path += r.path(p, at+".path", p)
	}
	if problem := r.reserved(op.Path); problem != "" {
		r.wrong(or(m["path"], v), at+".path", "%s", problem)
	}
	own := r.request(m["request"], at+".request", request)
	op.Request, op.Joined = own.names, own.joined
	r.fits(op, or(m["path"], v), at, fixed)
	op.Status = defaultStatus[action]
	if s := m["status"]; s.Exists() {
		n, _ := s.Int64()
		if op.Status = int(n); n < 200 || n > 299 {
			r.wrong(s, at+".status", "must be a number from 200 to 299")
		}
	}
	op.Headers = r.headers(m["headers"], at+".headers", action)
	a := m["answer"]
	switch empty := op.Status == http.StatusNoContent || op.Status == http.StatusResetContent; {
	case a.Exists() && empty:
		r.wrong(a, at+".answer", "can't be given with the status %d, which has no body", op.Status)
	case a.Exists():
		op.Answer = r.template(a, at+".answer", action)
	case !empty:
		op.Answer = r.defaultAnswer(action)
	}
	return op
}

// methods parses an operation's method, or a list of them.
func (r *reader) methods(v jsonindex.Value, at string) (list []string) {
	named := []jsonindex.Value{v}
	if v.Kind() == jsonindex.Array {
		named = named[:0]
		for _, element := range v.Elements() {
			named = append(named, element)
		}
	}
	for _, one := range named {
		if !slices.Contains(methods, one.Text()) || slices.Contains(list, one.Text()) {
			r.wrong(v, at, "must be one of %s, or a list of some of them", strings.Join(methods, ", "))
		}
		list = append(list, one.Text())
	}
	if len(list) == 0 {
		r.wrong(v, at, "must be one of %s, or a list of some of them", strings.Join(methods, ", "))
	}
	return list
}

// routerHeaders are the response headers that the router sets, or that a dialect must not change: they
// frame the response or protect its reader.
var routerHeaders = []string{"connection", "content-encoding", "content-length", "content-type", "date", "keep-alive", "referrer-policy", "server", "set-cookie",
	"strict-transport-security", "trailer", "transfer-encoding", "upgrade", "vary", "x-content-type-options", "x-frame-options"}

// headers parses an operation's response headers, in alphabetical order.
func (r *reader) headers(v jsonindex.Value, at string, action Action) (list []Header) {
	if !v.Exists() {
		return nil
	}
	if v.Kind() != jsonindex.Object {
		r.wrong(v, at, "must be an object such as {resource-id: $subscription.id}")
		return nil
	}
	for name, value := range v.Members() {
		field, lower := at+"."+name, strings.ToLower(name)
		if !headerForm.MatchString(name) || len(name) > longestText {
			r.wrong(value, field, "must be the name of a header, %d characters at most", longestText)
		}
		if slices.Contains(routerHeaders, lower) || strings.HasPrefix(lower, "access-control-") {
			r.wrong(value, field, "is set by the router")
		}
		if value.Kind() != jsonindex.String || strings.ContainsFunc(value.Text(), func(c rune) bool { return c < ' ' || c > '~' }) {
			r.wrong(value, field, `must be a text of visible ASCII characters, in which "{id}" stands for the subscription's id, or a placeholder such as "$subscription.id"`)
		}
		list = append(list, Header{name, r.template(value, field, action)})
	}
	return list
}

var defaultStatus = map[Action]int{Subscribe: 201, Unsubscribe: 204, Update: 200, Get: 200, List: 200, Catalogue: 200}

// fits checks that an operation gets all the input that its action needs.
func (r *reader) fits(op *Operation, v jsonindex.Value, at string, fixed jsonindex.Value) {
	inPath := strings.Contains(op.Path, "{id}")
	switch op.Action {
	case Get, Update:
		if !inPath {
			r.wrong(v, at+".path", "must hold {id}, for the subscription's id")
		}
	case Unsubscribe:
		if !inPath && op.Request[id] == "" && op.Request["target_url"] == "" {
			r.wrong(v, at+".path", "must hold {id}, or request must say under which name the id or target_url comes")
		}
	default:
		if inPath {
			r.wrong(v, at+".path", "can't hold {id}: %s is about no single subscription", op.Action)
		}
	}
	for _, ours := range map[Action][]string{Subscribe: {"target_url"}, Update: {""}}[op.Action] {
		if ours != "" && op.Request[ours] == "" || len(op.Request) == 0 {
			r.wrong(v, at+".request", "must say what the client calls our members, such as {event: name, target_url: hookurl}")
		}
	}
	if op.Action == Subscribe && op.Request["event"] == "" && op.Request["events"] == "" && !fixed.Get("event").Exists() && !fixed.Get("events").Exists() {
		r.wrong(v, at+".request", "must say what the client calls our event (or events), unless fixed has it")
	}
}

// reserved returns why nothing may be mounted at a path; empty if it may.
func (r *reader) reserved(path string) string {
	for _, taken := range r.words.Reserved {
		if overlap(path, taken) || taken != "/" && below(path, taken) {
			return fmt.Sprintf("%s is a path of the router's own", taken)
		}
	}
	return ""
}

func (r *reader) errors(v jsonindex.Value) *Errors {
	e := &Errors{Status: map[int]int{}}
	m := r.object(v, "errors", "status", "body")
	if s := m["status"]; s.Exists() {
		if s.Kind() != jsonindex.Object {
			r.wrong(s, "errors.status", "must be an object such as {422: 400}")
		}
		for ours, theirs := range s.Members() {
			var from int
			_, err := fmt.Sscanf(ours, "%d", &from)
			to, _ := theirs.Int64()
			if err != nil || from < 400 || from > 599 || to < 400 || to > 599 {
				r.wrong(theirs, "errors.status."+ours, "must lead from one number from 400 to 599 to another")
			}
			e.Status[from] = int(to)
		}
	}
	if b := m["body"]; b.Exists() {
		e.Body = r.template(b, "errors.body", errorResponse)
	}
	return e
}

// path parses a path of literal segments and {id}, without a trailing slash.
func (r *reader) path(v jsonindex.Value, at string, parent jsonindex.Value) string {
	text := strings.TrimSuffix(v.Text(), "/")
	rest, ok := strings.CutPrefix(text, "/")
	if v.Text() == "/" && at != "path" {
		return ""
	}
	if !ok || strings.Count(text, "{id}") > 1 {
		r.wrong(or(v, parent), at, `must be a path such as "/hooks"`)
		return text
	}
	for segment := range strings.SplitSeq(rest, "/") {
		if !segmentForm.MatchString(segment) || segment == "." || segment == ".." {
			r.wrong(v, at, `%.60q can't be a part of a path here: use letters, digits and . _ ~ -, or {id} (once)`, segment)
		}
	}
	return text
}

func or(v, otherwise jsonindex.Value) jsonindex.Value {
	if v.Exists() {
		return v
	}
	return otherwise
}
