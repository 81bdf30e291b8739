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

// Limits of a schema. The time to compile one grows with the square of its subschemas, the
// memory with the length of their paths.
const (
	maxSubschemas = 10_000   // counts every object and boolean
	maxElements   = 20_000   // of all arrays, such as enum and required
	maxPathBytes  = 16 << 20 // of the paths to all subschemas
	maxDepth      = 128
	// maxDigits is the maximum number of digits of a number, and its largest exponent: a
	// comparison with 1e999999 takes milliseconds, a multiple of it seconds.
	maxDigits = 1000
	// maxPaths is the maximum number of subschemas that are applied to the same value.
	maxPaths = 10_000
	// maxPattern is the maximum length of a regular expression, maxProgram the maximum number
	// of instructions of all of them together: (x{100}){10} is ten bytes, but 1000 instructions.
	maxPattern = 4 << 10
	maxProgram = 50_000
)

// measure counts the parts of a schema.
type measure struct {
	subschemas, elements, pathBytes int

	path    []string // of the value being counted
	anchors []string // JSON pointers, URL-encoded, of the subschemas with a $dynamicAnchor
}

// drafts matches the allowed values of $schema. With any other one a schema could be its own
// meta-schema, and its compilation would have no bound.
var drafts = regexp.MustCompile(`^https?://json-schema\.org/(draft-0[467]|draft/2019-09|draft/2020-12)/schema#?$`)

// walk counts v, whose path is m.path.
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

// pointer returns the path as a URL-encoded JSON pointer.
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

// sameValue returns the subschemas of s that are applied to the same value as s.
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

// parts returns the subschemas of s that are applied to parts of its value, or that depend
// on the value.
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

// reachable returns roots and all their subschemas, each once.
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

// checkPaths refuses a schema that would be applied to one value too often, or endlessly.
func checkPaths(root *jsonschema.Schema) error {
	const visiting = -1
	counts := map[*jsonschema.Schema]int{}
	var count func(s *jsonschema.Schema) (int, error)
	count = func(s *jsonschema.Schema) (n int, err error) {
		where := strings.TrimPrefix(s.Location, schemaURL)
		switch n = counts[s]; {
		case n == visiting:
			return 0, fmt.Errorf("applies the subschema %.200s to the same value endlessly: a reference to itself must go through a part of the value, such as a property", where)
		case n > 0:
			return n, nil
		}
		counts[s] = visiting
		n = 1
		for _, next := range sameValue(s) {
			more, err := count(next)
			if err != nil {
				return 0, err
			}
			if n += more; n > maxPaths {
				return 0, fmt.Errorf("applies more than %d subschemas to one value at %.200s: references that double grow exponentially", maxPaths, where)
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

// program returns the number of instructions of a regular expression, at least one.
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

// instructions estimates the number of instructions of a regular expression before it is
// compiled, with its repetitions expanded; it is at most maxProgram+1.
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
