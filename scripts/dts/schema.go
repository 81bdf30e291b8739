package dts

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"switchhook/scripts/jsonindex"
)

const (
	maxDepth   = 16        // of nested types; deeper ones are unknown
	maxTypes   = 5_000     // values of the schema that are read
	maxBytes   = 256 << 10 // of the generated text
	maxComment = 1_000     // bytes of a description
)

// ForSchema returns the TypeScript type that a JSON Schema describes. It knows type,
// properties, required, additionalProperties, items, prefixItems, enum, const, anyOf,
// oneOf, allOf, nullable, $ref within the document, and description and deprecated as
// comments. All other keywords are ignored; the type always allows at least the values that
// the schema allows.
func ForSchema(eventType string, schema []byte) (string, error) {
	doc, err := jsonindex.Parse(schema, jsonindex.Limits{})
	if err != nil {
		return "", fmt.Errorf("schema of %s: %w", eventType, err)
	}
	w := &writer{root: doc.Root()}
	switch w.root.Kind() {
	case jsonindex.Object, jsonindex.True, jsonindex.False:
	default:
		return "", fmt.Errorf("schema of %s: a JSON Schema is an object or a boolean", eventType)
	}
	text := w.typeOf(w.root, "", 0)
	if w.bytes > maxBytes || len(text) > maxBytes {
		return "", fmt.Errorf("schema of %s: %w", eventType, errTooLarge)
	}
	return text, nil
}

var errTooLarge = errors.New("its type would be too large")

// writer generates types. A type's lines after the first are indented like the line that
// contains it.
type writer struct {
	root  jsonindex.Value
	seen  int
	bytes int      // written in objects so far
	refs  []string // being followed: a schema may refer to itself
}

const unknown = "unknown"

func (w *writer) typeOf(s jsonindex.Value, indent string, depth int) string {
	w.seen++
	switch {
	case s.Kind() == jsonindex.False:
		return "never"
	case s.Kind() != jsonindex.Object, depth > maxDepth, w.seen > maxTypes, w.bytes > maxBytes:
		return unknown
	}
	parts := []string{w.own(s, indent, depth)}
	if ref := s.Get("$ref"); ref.Kind() == jsonindex.String {
		parts = append(parts, w.reference(ref.Text(), indent, depth))
	}
	for _, key := range []string{"anyOf", "oneOf"} {
		if list := s.Get(key); list.Kind() == jsonindex.Array && list.Len() > 0 {
			parts = append(parts, union(w.each(list, indent, depth)))
		}
	}
	if list := s.Get("allOf"); list.Kind() == jsonindex.Array {
		parts = append(parts, w.each(list, indent, depth)...)
	}
	made := intersection(parts)
	if s.Get("nullable").Kind() == jsonindex.True { // OpenAPI 3.0
		made = union([]string{made, "null"})
	}
	return made
}

func (w *writer) each(list jsonindex.Value, indent string, depth int) []string {
	var types []string
	for _, s := range list.Elements() {
		types = append(types, w.typeOf(s, indent, depth+1))
	}
	return types
}

// reference resolves a $ref such as #/$defs/address. A reference into a schema that is being
// written becomes unknown.
func (w *writer) reference(ref, indent string, depth int) string {
	path, local := strings.CutPrefix(ref, "#")
	if !local || slices.Contains(w.refs, ref) || path != "" && path[0] != '/' {
		return unknown
	}
	s := w.root
	if path != "" {
		for _, name := range strings.Split(path[1:], "/") {
			name = strings.NewReplacer("~1", "/", "~0", "~").Replace(name) // RFC 6901
			if i, err := strconv.Atoi(name); err == nil && s.Kind() == jsonindex.Array {
				s = element(s, i)
			} else {
				s = s.Get(name)
			}
		}
	} else if depth > 0 {
		return unknown
	}
	if !s.Exists() {
		return unknown
	}
	w.refs = append(w.refs, ref)
	made := w.typeOf(s, indent, depth+1)
	w.refs = w.refs[:len(w.refs)-1]
	return made
}

func element(list jsonindex.Value, at int) jsonindex.Value {
	for i, v := range list.Elements() {
		if i == at {
			return v
		}
	}
	return jsonindex.Value{}
}

// own returns the type of a schema without its anyOf, oneOf and allOf.
func (w *writer) own(s jsonindex.Value, indent string, depth int) string {
	if c := s.Get("const"); c.Exists() {
		return literal(c)
	}
	if values := s.Get("enum"); values.Kind() == jsonindex.Array {
		var types []string
		for _, v := range values.Elements() {
			types = append(types, literal(v))
		}
		return union(types)
	}
	var names []string
	switch t := s.Get("type"); t.Kind() {
	case jsonindex.String:
		names = []string{t.Text()}
	case jsonindex.Array:
		for _, name := range t.Elements() {
			names = append(names, name.Text())
		}
	default:
		// Schemas that omit type nearly always mean it.
		switch {
		case s.Get("properties").Exists() || s.Get("additionalProperties").Kind() == jsonindex.Object:
			names = []string{"object"}
		case s.Get("items").Exists() || s.Get("prefixItems").Exists():
			names = []string{"array"}
		default:
			return unknown
		}
	}
	var types []string
	for _, name := range names {
		types = append(types, w.named(name, s, indent, depth))
	}
	return union(types)
}

func (w *writer) named(name string, s jsonindex.Value, indent string, depth int) string {
	switch name {
	case "string", "boolean", "null":
		return name
	case "number":
		return "number"
	case "integer":
		if beyondExact(s) {
			return "number | bigint"
		}
		return "number"
	case "array":
		return w.array(s, indent, depth)
	case "object":
		return w.object(s, indent, depth)
	}
	return unknown
}

// beyondExact reports whether a schema declares that its integers may be too large for a
// number; a transform gets those as bigints.
func beyondExact(s jsonindex.Value) bool {
	if f := s.Get("format").Text(); f == "int64" || f == "uint64" {
		return true
	}
	for _, key := range []string{"maximum", "exclusiveMaximum", "minimum", "exclusiveMinimum"} {
		if v := s.Get(key); v.Kind() == jsonindex.Number && math.Abs(v.Float64()) > 1<<53 {
			return true
		}
	}
	return false
}

func (w *writer) array(s jsonindex.Value, indent string, depth int) string {
	items := s.Get("items")
	list := s.Get("prefixItems")
	if items.Kind() == jsonindex.Array { // before 2020-12
		list, items = items, s.Get("additionalItems")
	}
	rest := unknown
	if items.Exists() {
		rest = w.typeOf(items, indent, depth+1)
	}
	if list.Kind() != jsonindex.Array || list.Len() == 0 {
		return "Array<" + rest + ">"
	}
	types := w.each(list, indent, depth)
	least, _ := s.Get("minItems").Int64()
	for i := range types {
		if int64(i) >= least {
			types[i] = parenthesized(types[i]) + "?"
		}
	}
	if rest != "never" {
		types = append(types, "...Array<"+rest+">")
	}
	return "[" + strings.Join(types, ", ") + "]"
}

func (w *writer) object(s jsonindex.Value, indent string, depth int) string {
	required := map[string]bool{}
	for _, name := range s.Get("required").Elements() {
		required[name.Text()] = true
	}
	inner := indent + "  "
	var b strings.Builder
	var shown []string
	b.WriteString("{\n")
	for name, property := range s.Get("properties").Members() {
		if slices.Contains(shown, name) {
			continue
		}
		shown = append(shown, name)
		var note string
		if property.Get("deprecated").Kind() == jsonindex.True {
			note = "@deprecated"
		}
		comment(&b, inner, property.Get("description").Text(), note)
		optional := "?"
		if required[name] {
			optional = ""
		}
		before := w.bytes
		text := w.typeOf(property, inner, depth+1)
		fmt.Fprintf(&b, "%s%s%s: %s\n", inner, propertyName(name), optional, text)
		if w.bytes = before + len(text) + len(name); w.bytes > maxBytes {
			break
		}
	}
	for _, name := range s.Get("required").Elements() {
		if !slices.Contains(shown, name.Text()) && name.Kind() == jsonindex.String {
			shown = append(shown, name.Text())
			fmt.Fprintf(&b, "%s%s: %s\n", inner, propertyName(name.Text()), unknown)
		}
	}
	more := s.Get("additionalProperties")
	switch {
	case len(shown) == 0 && more.Kind() == jsonindex.Object:
		return "Record<string, " + w.typeOf(more, indent, depth+1) + ">"
	case len(shown) == 0 && more.Kind() == jsonindex.False && s.Get("patternProperties").Len() == 0:
		return "Record<string, never>"
	case len(shown) == 0:
		return "Record<string, unknown>"
	case more.Kind() == jsonindex.Object || more.Kind() == jsonindex.True || s.Get("patternProperties").Len() > 0:
		// An index signature must allow the named properties, too.
		fmt.Fprintf(&b, "%s[name: string]: unknown\n", inner)
	}
	return b.String() + indent + "}"
}

// literal returns the type of one value.
func literal(v jsonindex.Value) string {
	switch v.Kind() {
	case jsonindex.String:
		return stringLiteral(v.Text())
	case jsonindex.Number:
		if n, ok := v.Int64(); ok && (n > 1<<53 || n < -1<<53) {
			return strconv.FormatInt(n, 10) + "n"
		}
		if f := v.Float64(); math.IsInf(f, 0) {
			return "number"
		}
		return string(v.Raw())
	case jsonindex.True, jsonindex.False, jsonindex.Null:
		return string(v.Raw())
	}
	return unknown
}

// union and intersection omit redundant members.
func union(types []string) string {
	var parts []string
	for _, t := range types {
		switch {
		case t == unknown:
			return unknown
		case t != "never" && !slices.Contains(parts, t):
			parts = append(parts, t)
		}
	}
	if len(parts) == 0 {
		return "never"
	}
	return strings.Join(parts, " | ")
}

func intersection(types []string) string {
	var parts []string
	for _, t := range types {
		if t != unknown && !slices.Contains(parts, t) {
			parts = append(parts, t)
		}
	}
	switch len(parts) {
	case 0:
		return unknown
	case 1:
		return parts[0]
	}
	for i := range parts {
		parts[i] = parenthesized(parts[i])
	}
	return strings.Join(parts, " & ")
}

// parenthesized returns t in parentheses if an operator beside it needs them.
func parenthesized(t string) string {
	if strings.Contains(t, " | ") || strings.Contains(t, " & ") {
		return "(" + t + ")"
	}
	return t
}

var identifier = regexp.MustCompile(`^[A-Za-z_$][\w$]*$`)

// propertyName returns a property's name, quoted if needed.
func propertyName(name string) string {
	if identifier.MatchString(name) {
		return name
	}
	return stringLiteral(name)
}

// stringLiteral returns a text as a TypeScript string literal.
func stringLiteral(s string) string {
	quoted, _ := json.Marshal(s) // a string can always be encoded
	return string(quoted)
}

// comment writes a doc comment of the texts that are not empty.
func comment(b *strings.Builder, indent string, texts ...string) {
	var lines []string
	for _, text := range texts {
		text = strings.ToValidUTF8(text[:min(len(text), maxComment)], "")
		text = strings.Map(func(c rune) rune {
			if c < ' ' && c != '\n' || c == 0x7f || c == '\u2028' || c == '\u2029' {
				return ' '
			}
			return c
		}, strings.ReplaceAll(text, "*/", "*\u200b/"))
		for line := range strings.Lines(strings.TrimSpace(text)) {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	switch {
	case len(lines) == 0:
	case len(lines) == 1:
		fmt.Fprintf(b, "%s/** %s */\n", indent, lines[0])
	default:
		fmt.Fprintf(b, "%s/**\n", indent)
		for _, line := range lines {
			b.WriteString(strings.TrimRight(indent+" * "+line, " ") + "\n")
		}
		fmt.Fprintf(b, "%s */\n", indent)
	}
}
