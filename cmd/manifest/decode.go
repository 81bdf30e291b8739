package manifest

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"switchhook/scripts/jsonindex"
	"switchhook/scripts/suggest"
)

// decoder reads one YAML file.
type decoder struct {
	*loader
	name   string
	lineAt func(offset int) int
}

// field is a value with its path, and the line of the nearest parent value that has one.
type field struct {
	jsonindex.Value
	path string
	line int
}

func (d *decoder) parse(text []byte) (field, bool) {
	doc, err := jsonindex.Parse(text, jsonindex.Limits{NoDuplicates: true})
	if err != nil {
		line := 0
		if at, ok := errors.AsType[*jsonindex.SyntaxError](err); ok {
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

func (d *decoder) place(f field) Position { return Position{d.shown(d.name), f.line} }

// object checks that f is an object with only these members.
func (d *decoder) object(f field, names ...string) bool {
	if f.Kind() != jsonindex.Object {
		d.wrong(f, "must have members (%s), but is %s", strings.Join(names, ", "), kind(f))
		return false
	}
	for name := range f.Members() {
		if slices.Contains(names, name) {
			continue
		}
		at := d.get(f, name)
		if meant := suggest.Closest(name, names); meant != "" {
			d.wrong(at, "is not known: did you mean %q?", meant)
		} else {
			d.wrong(at, "is not known: the members are %s", strings.Join(names, ", "))
		}
	}
	return true
}

func kind(f field) string {
	switch k := f.Kind(); k {
	case jsonindex.Missing, jsonindex.Null:
		return "missing"
	case jsonindex.Array:
		return "a list"
	case jsonindex.Object:
		return "an object"
	case jsonindex.String:
		return "a text"
	default:
		return "a " + k.String()
	}
}

// given reports whether a member has a value; null is none.
func given(f field) bool { return f.Exists() && f.Kind() != jsonindex.Null }

// text reads a string; numbers and the like must be quoted, since YAML reformats them.
func (d *decoder) text(f field) string {
	if !given(f) {
		return ""
	}
	if f.Kind() != jsonindex.String {
		d.wrong(f, "must be a text, but is %s: put it in quotes", kind(f))
	}
	return strings.Clone(f.Text())
}

func (d *decoder) needed(f field, name, why string) string {
	at := d.get(f, name)
	text := d.text(at)
	if strings.TrimSpace(text) == "" && (!given(at) || at.Kind() == jsonindex.String) {
		d.wrong(at, "is missing: %s", why)
	}
	return text
}

func (d *decoder) list(f field, of string) []field {
	if !given(f) {
		return nil
	}
	if f.Kind() != jsonindex.Array {
		d.wrong(f, "must be a list of %s, but is %s", of, kind(f))
		return nil
	}
	return d.elements(f)
}

func (d *decoder) top(f field) {
	if f.Kind() == jsonindex.Null || !d.object(f, "event_types", "scripts", "subscriptions") {
		return // an empty file is valid
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

// unique claims a thing's name, which must be unique.
func (d *decoder) unique(f field, what, account, name string) {
	if first, ok := d.claim(what, account, name, d.place(f)); !ok && name != "" {
		d.wrong(d.get(f, "name"), "%q is the name of another %s: %v", name, what, first)
	}
}

// fileOf reads a file that a member names, and returns its path in the folder.
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

// document reads a JSON value, given inline or in a named file.
func (d *decoder) document(f field) json.RawMessage {
	if f.Kind() != jsonindex.String {
		return slices.Clone(f.Raw())
	}
	text, name := d.fileOf(f)
	if name == "" {
		return nil
	}
	if _, err := jsonindex.Parse(text, jsonindex.Limits{NoDuplicates: true}); err != nil {
		line := 0
		if at, ok := errors.AsType[*jsonindex.SyntaxError](err); ok {
			line = at.Line
		}
		d.loader.wrong(name, line, "not valid JSON: %v", err)
		return nil
	}
	return text
}

// hidden is the router's placeholder for a credential.
const hidden = "[hidden]"

var variable = regexp.MustCompile(`\$\$\{|\$\{([^}]*)\}?`)

var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// value reads a text with ${NAME} from the environment; $${ is a literal ${.
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
