package schema

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// What a schema may hold. To compile one takes time that grows with the square of its
// subschemas, and memory for the path of each.
const (
	maxSubschemas = 10_000   // and whatever else is an object, or true or false
	maxElements   = 20_000   // of all arrays, such as enum and required
	maxPathBytes  = 16 << 20 // of the paths to all subschemas
	maxDepth      = 128
	// maxDigits of a number, and its largest exponent: comparing 1e999999 with anything
	// takes milliseconds, and a multiple of it seconds.
	maxDigits = 1000
	// maxPaths is how many subschemas may be applied to one and the same value.
	maxPaths = 10_000
	// maxPattern and maxProgram bound regular expressions: their text, and the instructions
	// of all of them together. (x{100}){10} is ten bytes, and 1000 instructions.
	maxPattern = 4 << 10
	maxProgram = 50_000
)

// measure counts what a schema holds.
type measure struct {
	subschemas, elements, pathBytes int

	path    []string // of the value that is being counted
	anchors []string // JSON pointers, in a URL, of the subschemas that have a $dynamicAnchor
}

// drafts are the values that $schema may have. With another one a schema could be the
// schema that it is checked against itself, without any bound.
var drafts = regexp.MustCompile(`^https?://json-schema\.org/(draft-0[467]|draft/2019-09|draft/2020-12)/schema#?$`)

// walk counts v, which stands at m.path.
func (m *measure) walk(v any) error {
	if len(m.path) > maxDepth {
		return fmt.Errorf("nests more than %d levels deep", maxDepth)
	}
	switch v := v.(type) {
	case bool:
		return m.subschema()
	case json.Number:
		if !comparable(v) {
			return fmt.Errorf("holds the number %.20s…: numbers may have %d digits, and an exponent up to that", v, maxDigits)
		}
	case []any:
		if m.elements += len(v); m.elements > maxElements {
			return fmt.Errorf("has arrays of more than %d elements together", maxElements)
		}
		for i, e := range v {
			if err := m.under(strconv.Itoa(i), e); err != nil {
				return err
			}
		}
	case map[string]any:
		if err := m.subschema(); err != nil {
			return err
		}
		if draft, ok := v["$schema"].(string); ok && !drafts.MatchString(draft) {
			return fmt.Errorf("names the dialect %.100q in $schema: schemas are not loaded from elsewhere; use a draft of json-schema.org from draft-04 to 2020-12", draft)
		}
		if _, ok := v["$dynamicAnchor"].(string); ok {
			m.anchors = append(m.anchors, m.pointer())
		}
		for name, e := range v {
			if err := m.under(name, e); err != nil {
				return err
			}
		}
	}
	return nil
}

func (m *measure) under(name string, v any) error {
	m.path = append(m.path, name)
	defer func() { m.path = m.path[:len(m.path)-1] }()
	return m.walk(v)
}

// pointer is the path as a JSON pointer in a URL.
func (m *measure) pointer() string {
	var p strings.Builder
	for _, name := range m.path {
		p.WriteByte('/')
		p.WriteString(url.PathEscape(strings.NewReplacer("~", "~0", "/", "~1").Replace(name)))
	}
	return p.String()
}

func (m *measure) subschema() error {
	m.subschemas++
	for _, name := range m.path {
		m.pathBytes += 1 + len(name)
	}
	switch {
	case m.subschemas > maxSubschemas:
		return fmt.Errorf("has more than %d subschemas", maxSubschemas)
	case m.pathBytes > maxPathBytes:
		return errors.New("has too many subschemas under long names, or too deep")
	}
	return nil
}

// comparable reports whether a number can be compared with others at little cost.
func comparable(n json.Number) bool {
	mantissa, exponent := string(n), ""
	if i := strings.IndexAny(mantissa, "eE"); i >= 0 {
		mantissa, exponent = mantissa[:i], mantissa[i+1:]
	}
	if len(mantissa) > maxDigits {
		return false
	}
	if exponent == "" {
		return true
	}
	e, err := strconv.Atoi(exponent)
	return err == nil && e >= -maxDigits && e <= maxDigits
}

// sameValue lists the subschemas of s that are applied to the value to which s is.
func sameValue(s *jsonschema.Schema) []*jsonschema.Schema {
	list := slices.Concat([]*jsonschema.Schema{s.Ref, s.Not, s.If, s.Then, s.Else}, s.AllOf, s.AnyOf, s.OneOf)
	for _, d := range s.DependentSchemas {
		list = append(list, d)
	}
	for _, d := range s.Dependencies {
		if d, ok := d.(*jsonschema.Schema); ok {
			list = append(list, d)
		}
	}
	return slices.DeleteFunc(list, func(s *jsonschema.Schema) bool { return s == nil })
}

// parts lists the subschemas of s that are applied to parts of its value, or that are known
// only when the value is.
func parts(s *jsonschema.Schema) []*jsonschema.Schema {
	list := slices.Concat([]*jsonschema.Schema{s.PropertyNames, s.UnevaluatedProperties, s.Contains, s.Items2020, s.UnevaluatedItems, s.ContentSchema, s.RecursiveRef}, s.PrefixItems)
	if s.DynamicRef != nil {
		list = append(list, s.DynamicRef.Ref)
	}
	for _, p := range s.Properties {
		list = append(list, p)
	}
	for _, p := range s.PatternProperties {
		list = append(list, p)
	}
	for _, other := range []any{s.AdditionalProperties, s.Items, s.AdditionalItems} {
		switch other := other.(type) {
		case *jsonschema.Schema:
			list = append(list, other)
		case []*jsonschema.Schema:
			list = append(list, other...)
		}
	}
	return slices.DeleteFunc(list, func(s *jsonschema.Schema) bool { return s == nil })
}

// reachable lists roots and all their subschemas, each once.
func reachable(roots ...*jsonschema.Schema) []*jsonschema.Schema {
	var list []*jsonschema.Schema
	seen := map[*jsonschema.Schema]bool{}
	for _, s := range roots {
		if !seen[s] {
			seen[s] = true
			list = append(list, s)
		}
	}
	for i := 0; i < len(list); i++ {
		for _, next := range slices.Concat(sameValue(list[i]), parts(list[i])) {
			if !seen[next] {
				seen[next] = true
				list = append(list, next)
			}
		}
	}
	return list
}

// checkPaths refuses a schema that is applied to one value too often, or for ever.
func checkPaths(root *jsonschema.Schema) error {
	const under = -1 // it is being counted
	counts := map[*jsonschema.Schema]int{}
	var count func(s *jsonschema.Schema) (int, error)
	count = func(s *jsonschema.Schema) (n int, err error) {
		where := strings.TrimPrefix(s.Location, schemaURL)
		switch n = counts[s]; {
		case n == under:
			return 0, fmt.Errorf("applies the subschema %.200s to a value again and again: a reference to itself must go through a part of the value, such as a property", where)
		case n > 0:
			return n, nil
		}
		counts[s] = under
		n = 1
		for _, next := range sameValue(s) {
			more, err := count(next)
			if err != nil {
				return 0, err
			}
			if n += more; n > maxPaths {
				return 0, fmt.Errorf("applies more than %d subschemas to one value at %.200s; references that double each other grow without bounds", maxPaths, where)
			}
		}
		counts[s] = n
		return n, nil
	}
	for _, s := range reachable(root) {
		if _, err := count(s); err != nil {
			return err
		}
	}
	return nil
}

// program gives the instructions that a regular expression takes, at least one.
func program(pattern string) (int, error) {
	if len(pattern) > maxPattern {
		return 0, fmt.Errorf("regular expression of %d bytes, %d are allowed", len(pattern), maxPattern)
	}
	parsed, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return 0, err
	}
	return instructions(parsed), nil
}

// instructions estimates, before it is compiled, what a regular expression takes once its
// repetitions are written out; maxProgram+1 stands for all that is more.
func instructions(re *syntax.Regexp) int {
	n := 1 + len(re.Rune)/2
	for _, sub := range re.Sub {
		n += instructions(sub)
	}
	if re.Op == syntax.OpRepeat {
		n *= max(re.Min, re.Max, 1)
	}
	return min(n, maxProgram+1)
}
