package manifest

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/textproto"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"switchhook/engine/schema"
	"switchhook/scripts/jsondoc"
	"switchhook/scripts/near"
	"switchhook/scripts/suite"
)

// decoder reads one YAML file.
type decoder struct {
	*loader
	name   string
	lineAt func(offset int) int
}

// field is a value with the path that leads to it, and the line of the nearest value
// above it that has one.
type field struct {
	jsondoc.Value
	path string
	line int
}

func (d *decoder) parse(text []byte) (field, bool) {
	doc, err := jsondoc.Parse(text, jsondoc.Limits{NoDuplicates: true})
	if err != nil {
		line := 0
		if at, ok := errors.AsType[*jsondoc.SyntaxError](err); ok {
			line = d.lineAt(at.Offset)
		}
		d.loader.wrong(d.name, line, "%v", err)
		return field{}, false
	}
	return field{doc.Root(), "", 1}, true
}

func (d *decoder) get(f field, name string) field {
	v, line := f.Get(name), f.line
	if v.Exists() {
		if at := d.lineAt(v.Offset()); at > 0 {
			line = at
		}
	}
	return field{v, strings.TrimPrefix(f.path+"."+name, "."), line}
}

func (d *decoder) elements(f field) []field {
	list := make([]field, 0, f.Len())
	for i, v := range f.Elements() {
		e := field{v, fmt.Sprintf("%s[%d]", f.path, i), f.line}
		if at := d.lineAt(v.Offset()); at > 0 {
			e.line = at
		}
		list = append(list, e)
	}
	return list
}

func (d *decoder) wrong(f field, format string, args ...any) {
	d.loader.wrong(d.name, f.line, "%s", strings.TrimSpace(f.path+" "+fmt.Sprintf(format, args...)))
}

func (d *decoder) place(f field) Place { return Place{d.shown(d.name), f.line} }

// object checks that f is an object of these members.
func (d *decoder) object(f field, names ...string) bool {
	if f.Kind() != jsondoc.Object {
		d.wrong(f, "must have members (%s), but is %s", strings.Join(names, ", "), kind(f))
		return false
	}
	for name := range f.Members() {
		if slices.Contains(names, name) {
			continue
		}
		at := d.get(f, name)
		if meant := near.Name(name, names); meant != "" {
			d.wrong(at, "is not known: did you mean %q?", meant)
		} else {
			d.wrong(at, "is not known: there is %s", strings.Join(names, ", "))
		}
	}
	return true
}

func kind(f field) string {
	switch k := f.Kind(); k {
	case jsondoc.Missing, jsondoc.Null:
		return "missing"
	case jsondoc.Array:
		return "a list"
	case jsondoc.Object:
		return "an object"
	case jsondoc.String:
		return "a text"
	default:
		return "a " + k.String()
	}
}

// given tells whether a member has a value; null is none.
func given(f field) bool { return f.Exists() && f.Kind() != jsondoc.Null }

// text reads a text; numbers and the like must be in quotes, for YAML changes what they
// look like.
func (d *decoder) text(f field) string {
	if !given(f) {
		return ""
	}
	if f.Kind() != jsondoc.String {
		d.wrong(f, "must be a text, but is %s: put it in quotes", kind(f))
	}
	return strings.Clone(f.Text())
}

func (d *decoder) needed(f field, name, why string) string {
	at := d.get(f, name)
	text := d.text(at)
	if strings.TrimSpace(text) == "" && (!given(at) || at.Kind() == jsondoc.String) {
		d.wrong(at, "is missing: %s", why)
	}
	return text
}

func (d *decoder) list(f field, of string) []field {
	if !given(f) {
		return nil
	}
	if f.Kind() != jsondoc.Array {
		d.wrong(f, "must be a list of %s, but is %s", of, kind(f))
		return nil
	}
	return d.elements(f)
}

func (d *decoder) top(f field) {
	if f.Kind() == jsondoc.Null || !d.object(f, "event_types", "scripts", "subscriptions") {
		return // an empty file is no mistake
	}
	for _, e := range d.list(d.get(f, "event_types"), "event types") {
		if t := d.eventType(e); t != nil {
			d.set.EventTypes = append(d.set.EventTypes, t)
		}
	}
	for _, e := range d.list(d.get(f, "scripts"), "scripts") {
		if s := d.script(e); s != nil {
			d.set.Scripts = append(d.set.Scripts, s)
		}
	}
	for _, e := range d.list(d.get(f, "subscriptions"), "subscriptions") {
		if s := d.subscription(e); s != nil {
			d.set.Subscriptions = append(d.set.Subscriptions, s)
		}
	}
}

// unique notes a thing's name, which no other may have.
func (d *decoder) unique(f field, what, account, name string) {
	if first, ok := d.claim(what, account, name, d.place(f)); !ok && name != "" {
		d.wrong(d.get(f, "name"), "%q is the name of another %s: %v", name, what, first)
	}
}

// File reads a file that a member names, and says where it is in the folder.
func (d *decoder) fileOf(f field) (text []byte, name string) {
	name, err := beside(d.name, d.text(f))
	if err == nil {
		text, err = d.bytes(name, maxFile)
	}
	if err != nil {
		d.wrong(f, "%q: %v", f.Text(), err)
		return nil, ""
	}
	return text, name
}

// document reads a JSON value that stands here, or in a file that is named.
func (d *decoder) document(f field) json.RawMessage {
	if f.Kind() != jsondoc.String {
		return slices.Clone(f.Raw())
	}
	text, name := d.fileOf(f)
	if name == "" {
		return nil
	}
	if _, err := jsondoc.Parse(text, jsondoc.Limits{NoDuplicates: true}); err != nil {
		line := 0
		if at, ok := errors.AsType[*jsondoc.SyntaxError](err); ok {
			line = at.Line
		}
		d.loader.wrong(name, line, "not valid JSON: %v", err)
		return nil
	}
	return text
}

var eventTypeName = regexp.MustCompile(`^\w+([.\-/:]\w+)*$`)

func (d *decoder) eventType(f field) *EventType {
	if !d.object(f, "name", "description", "schema", "samples") {
		return nil
	}
	t := &EventType{Place: d.place(f), Name: d.needed(f, "name", "such as order.created"), Description: d.text(d.get(f, "description")), Samples: []json.RawMessage{}}
	d.unique(f, "event type", "", t.Name)
	if t.Name != "" && !eventTypeName.MatchString(t.Name) {
		d.wrong(d.get(f, "name"), `%q is no event type: use letters, digits and _ in parts joined by ".", such as "order.created"`, t.Name)
	}
	var compiled *schema.Schema
	if at := d.get(f, "schema"); given(at) {
		if t.Schema = d.document(at); t.Schema != nil {
			var err error
			if compiled, err = schema.Compile(t.Schema); err != nil {
				d.wrong(at, "%v", err)
			}
		}
	}
	for _, e := range d.list(d.get(f, "samples"), "samples") {
		sample := d.document(e)
		if sample == nil {
			continue
		}
		t.Samples = append(t.Samples, sample)
		if compiled == nil {
			continue
		}
		if p := compiled.Validate(sample); p != nil {
			d.wrong(e, "does not follow the schema: %s", strings.TrimSpace(p.Path+" "+p.Message))
		}
	}
	return t
}

const longestName = 100 // of a script; a subscription's has the same bound

func (d *decoder) properName(f field, name string) {
	if strings.TrimSpace(name) != name || len(name) > longestName || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == '/' }) || strings.HasPrefix(name, "scr_") {
		d.wrong(d.get(f, "name"), "%.40q must be 1 to %d bytes without a slash, a line break or spaces around it, and not begin with scr_", name, longestName)
	}
}

func (d *decoder) script(f field) *Script {
	if !d.object(f, "name", "account", "kind", "description", "file", "source", "tests") {
		return nil
	}
	s := &Script{Place: d.place(f), Account: cmp.Or(d.text(d.get(f, "account")), d.account), Kind: d.text(d.get(f, "kind")), Description: d.text(d.get(f, "description"))}
	s.Name = d.needed(f, "name", "subscriptions refer to the script by it")
	d.properName(f, s.Name)
	d.unique(f, "script", s.Account, s.Name)
	file, source := d.get(f, "file"), d.get(f, "source")
	switch {
	case given(file) && given(source):
		d.wrong(source, "and file are both given: give one of them")
	case given(file):
		text, name := d.fileOf(file)
		s.Source = string(text)
		if name != "" {
			s.SourceFile = d.shown(name)
			if s.Kind == "" {
				s.Kind = KindOf(name)
			}
		}
	case given(source):
		s.Source = d.text(source)
	}
	switch {
	case given(file) && s.SourceFile == "": // told already
	case strings.TrimSpace(s.Source) == "":
		d.wrong(file, "is missing or empty: name the file with the source, or give the source itself in source")
	case s.Kind != "filter" && s.Kind != "transform":
		d.wrong(d.get(f, "kind"), `must be "filter" or "transform"`)
	}
	if at := d.get(f, "tests"); given(at) {
		s.Cases, s.TestsFile = d.cases(at)
	}
	return s
}

func (d *decoder) cases(f field) ([]suite.Case, string) {
	text, name := d.fileOf(f)
	if name == "" {
		return nil, ""
	}
	cases, err := ReadCases(d.shown(name), text, func(named string) ([]byte, error) {
		event, err := beside(name, named)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", named, err)
		}
		text, err := d.bytes(event, maxFile)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", named, err)
		}
		return text, nil
	})
	if err != nil {
		d.mistakes = append(d.mistakes, err.(*Mistake))
	}
	return cases, d.shown(name)
}

func (d *decoder) subscription(f field) *Subscription {
	if !d.object(f, "name", "account", "event", "events", "target_url", "filter", "filter_script", "transform", "transform_script", "headers", "payload_format", "description", "metadata", "active") {
		return nil
	}
	s := &Subscription{Place: d.place(f), Account: cmp.Or(d.text(d.get(f, "account")), d.account), Description: d.text(d.get(f, "description"))}
	s.Name = d.needed(f, "name", "apply knows the subscription again by it")
	d.properName(f, s.Name)
	d.unique(f, "subscription", s.Account, s.Name)
	s.Events = d.events(f)
	d.needed(f, "target_url", "the address that is sent to")
	s.TargetURL = d.value(d.get(f, "target_url"))
	if u, err := url.Parse(s.TargetURL.Text); s.TargetURL.Text != "" && (err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "") {
		d.wrong(d.get(f, "target_url"), "is no address such as https://example.com/hook")
	}
	s.Filter, s.FilterScript = d.use(f, "filter")
	s.Filter = strings.TrimSpace(s.Filter)
	s.Transform, s.TransformScript = d.use(f, "transform")
	s.Headers = d.headers(d.get(f, "headers"))
	format := d.get(f, "payload_format")
	if s.PayloadFormat = d.text(format); s.PayloadFormat == "" {
		s.PayloadFormat = "standard"
	} else if s.PayloadFormat != "standard" && s.PayloadFormat != "data" {
		d.wrong(format, `must be "standard" or "data"`)
	}
	s.Metadata = map[string]string{}
	if at := d.get(f, "metadata"); given(at) && d.object(at, members(at)...) {
		for _, name := range members(at) {
			if strings.HasPrefix(name, OwnKeys) {
				d.wrong(d.get(at, name), "can't be given: names that begin with %q belong to apply", OwnKeys)
			}
			s.Metadata[name] = d.text(d.get(at, name))
		}
	}
	if at := d.get(f, "active"); given(at) {
		is := at.Kind() == jsondoc.True
		if s.Active = &is; !is && at.Kind() != jsondoc.False {
			d.wrong(at, "must be true or false, but is %s", kind(at))
		}
	}
	return s
}

func members(f field) (names []string) {
	for name := range f.Members() {
		names = append(names, strings.Clone(name))
	}
	return names
}

func (d *decoder) events(f field) (names []string) {
	one, several := d.get(f, "event"), d.get(f, "events")
	fields := d.list(several, "event types")
	switch {
	case given(one) && given(several):
		d.wrong(one, "and events are both given: give one of them")
	case given(one):
		fields = []field{one}
	}
	for _, e := range fields {
		name := d.text(e)
		switch {
		case name != "*" && !eventTypeName.MatchString(strings.TrimSuffix(name, ".*")):
			d.wrong(e, `%q is neither an event type ("order.created") nor a pattern ("order.*" or "*")`, name)
		case slices.Contains(names, name):
			d.wrong(e, "%q is named twice", name)
		}
		names = append(names, name)
	}
	if len(fields) == 0 {
		d.wrong(one, `is missing: name an event type ("order.created"), a pattern ("order.*") or "*"`)
	}
	return names
}

// use reads a filter or transform: a source of the subscription's own, or a script.
func (d *decoder) use(f field, kind string) (source string, ref *Ref) {
	own, script := d.get(f, kind), d.get(f, kind+"_script")
	if given(own) && given(script) {
		d.wrong(script, "and %s are both given: give one of them", kind)
	}
	source = d.text(own)
	if strings.TrimSpace(source) == "" {
		source = ""
	}
	switch {
	case !given(script):
		return source, nil
	case script.Kind() == jsondoc.String:
		return source, &Ref{Name: d.text(script)}
	case !d.object(script, "name", "version"):
		return source, nil
	}
	ref = &Ref{Name: d.needed(script, "name", "which script")}
	if at := d.get(script, "version"); given(at) {
		var err error
		if ref.Version, err = strconv.Atoi(string(at.Raw())); err != nil || ref.Version < 1 {
			d.wrong(at, "must be the number of a version; left out, it is the live one")
		}
	}
	return source, ref
}

func (d *decoder) headers(f field) map[string]Value {
	headers := map[string]Value{}
	if !given(f) || !d.object(f, members(f)...) {
		return headers
	}
	for _, name := range members(f) {
		at := d.get(f, name)
		proper := textproto.CanonicalMIMEHeaderKey(name)
		if _, twice := headers[proper]; twice {
			d.wrong(at, "is given twice: names of headers don't tell cases apart")
		}
		headers[proper] = d.value(at)
		if given(at) && headers[proper].Text == hidden {
			d.wrong(at, "is %q, which is how the router shows a value that it hides: give the value by ${NAME}", hidden)
		}
	}
	return headers
}

// hidden is what the router shows in place of a credential.
const hidden = "[hidden]"

var variable = regexp.MustCompile(`\$\$\{|\$\{([^}]*)\}?`)

var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// value reads a text with ${NAME} from the environment; $${ is a plain ${.
func (d *decoder) value(f field) Value {
	text := d.text(f)
	v := Value{}
	missing := map[string]bool{}
	v.Text = variable.ReplaceAllStringFunc(text, func(found string) string {
		if found == "$${" {
			return "${"
		}
		name, closed := strings.CutSuffix(strings.TrimPrefix(found, "${"), "}")
		if !closed || !variableName.MatchString(name) {
			d.wrong(f, "has %q, which is no ${NAME}; write $${ for a plain ${", found)
			return ""
		}
		v.Template = text
		value, ok := d.getenv(name)
		if !ok || value == "" {
			missing[name] = true
		}
		return value
	})
	for _, name := range slices.Sorted(maps.Keys(missing)) {
		d.wrong(f, "needs the environment variable %s, which is not set", name)
	}
	return v
}
