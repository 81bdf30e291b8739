package schema

import (
	"context"
	"encoding/json"
	"fmt"
	"math/big"
	"regexp"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
)

// What a check may take: one step is about a subschema applied to a value, or 64 bytes
// compared. References that double each other make any check endless, and the library has
// neither bound nor context.
const (
	stepsAtLeast = 20_000
	stepsPerByte = 16
	// maxFailures of a check: the library keeps them all, with their places, also those
	// within an anyOf that another alternative makes good.
	maxFailures = 100_000
	lookEvery   = 4096 // steps between two looks at the context
)

// checker is a schema made ready for one check at a time. All that the library does for a
// value goes through its hooks: one in the place of "format", which the library asks for
// each subschema before it goes further down, and one for regular expressions.
type checker struct {
	compiled *jsonschema.Schema
	checking bool                // in check; otherwise the schema itself is being compiled
	patterns map[string]*pattern // of the schema
	program  int                 // instructions of all of them

	// of the check that is on
	ctx      context.Context
	steps    int // that are left
	look     int // steps until the next look at ctx
	failures int
}

// stopped is what hooks panic with to end a check.
type stopped struct{ err error }

func newChecker(source []byte) (*checker, error) {
	c := &checker{patterns: map[string]*pattern{}}
	roots, err := compile(source, c.regexp)
	if err != nil {
		return nil, err
	}
	c.compiled = roots[0]
	for _, s := range reachable(roots...) {
		if s.Bool == nil {
			c.hook(s)
		}
	}
	c.checking = true
	return c, nil
}

// check checks a value that was read from so many bytes.
func (c *checker) check(ctx context.Context, doc any, size int) (err error) {
	if n, found := incomparable(doc); found {
		return &Problem{Message: fmt.Sprintf("holds the number %.20s…, which can't be checked: numbers may have %d digits, and an exponent up to that", n, maxDigits)}
	}
	c.ctx, c.steps, c.look, c.failures = ctx, stepsAtLeast+stepsPerByte*size, lookEvery, 0
	defer func() {
		c.ctx = nil
		switch end := recover().(type) {
		case nil:
		case stopped:
			err = end.err
		default:
			panic(end)
		}
	}()
	err = c.compiled.Validate(doc)
	if err == nil {
		return nil
	}
	return deepest(err.(*jsonschema.ValidationError))
}

var errSteps = &Problem{Message: "takes too many steps to be checked: the schema goes over the same value again and again, or the value is too deep; simplify the schema"}

// spend takes steps for what is to be done, and ends the check where there are none left.
func (c *checker) spend(n int) {
	if !c.checking {
		return
	}
	if c.steps -= n; c.steps < 0 {
		panic(stopped{errSteps})
	}
	if c.look -= n; c.look < 0 {
		c.look = lookEvery
		if err := c.ctx.Err(); err != nil {
			panic(stopped{err})
		}
	}
}

// incomparable finds a number that would take too long to compare.
func incomparable(v any) (json.Number, bool) {
	switch v := v.(type) {
	case json.Number:
		return v, !comparable(v)
	case []any:
		for _, e := range v {
			if n, found := incomparable(e); found {
				return n, true
			}
		}
	case map[string]any:
		for _, e := range v {
			if n, found := incomparable(e); found {
				return n, true
			}
		}
	}
	return "", false
}

// hook puts a budget before all that s does with a value. What the library would do before
// it asks for the format is done here: type, const and enum.
func (c *checker) hook(s *jsonschema.Schema) {
	h := &hook{c: c, each: 1 + len(s.Required) + len(s.Dependencies) + len(s.DependentSchemas) + len(s.DependentRequired), unique: s.UniqueItems}
	for _, names := range s.DependentRequired {
		h.each += len(names)
	}
	for _, names := range s.Dependencies {
		if names, ok := names.([]string); ok {
			h.each += len(names)
		}
	}
	if s.Types != nil {
		h.types = s.Types.ToStrings()
	}
	if s.Const != nil {
		h.constant = s.Const
	}
	if s.Enum != nil {
		h.enum = s.Enum.Values
		h.texts = make(map[string]bool, len(h.enum))
		h.others = slices.DeleteFunc(slices.Clone(h.enum), func(v any) bool {
			text, ok := v.(string)
			if ok {
				h.texts[text] = true
			}
			return ok
		})
	}
	s.Types, s.Const, s.Enum = nil, nil, nil
	name := ""
	if h.format = s.Format; h.format != nil {
		name = h.format.Name
	}
	s.Format = &jsonschema.Format{Name: name, Validate: h.check}
}

// hook is what is asked of a value for one subschema before anything else.
type hook struct {
	c        *checker
	each     int // steps for any value
	unique   bool
	types    []string
	constant *any
	enum     []any
	texts    map[string]bool // of enum
	others   []any           // of enum
	format   *jsonschema.Format
}

// failure is what a hook says is wrong.
type failure struct{ kind jsonschema.ErrorKind }

// Error gives the library's text, which does not know null.
func (f failure) Error() string {
	if k, ok := f.kind.(*kind.Const); ok && k.Want == nil {
		return "value must be null"
	}
	return f.kind.LocalizedString(english)
}

func (h *hook) check(v any) error {
	cost := h.each
	switch v := v.(type) {
	case string:
		cost += len(v) / 64
	case []any:
		cost += len(v)
		if h.unique { // few are compared each with each, many by a hash
			cost += min(len(v), 20) * values(v)
		}
	case map[string]any:
		cost += len(v)
	}
	h.c.spend(cost)
	if err := h.assert(v); err != nil {
		if h.c.failures++; h.c.failures > maxFailures {
			panic(stopped{errSteps})
		}
		return err
	}
	if h.format != nil {
		return h.format.Validate(v)
	}
	return nil
}

func (h *hook) assert(v any) error {
	if h.types != nil {
		got := typeOf(v)
		if !slices.Contains(h.types, got) && (got != "number" || !slices.Contains(h.types, "integer") || !whole(v.(json.Number))) {
			return failure{&kind.Type{Got: got, Want: h.types}}
		}
	}
	if h.constant != nil && !h.c.equal(v, *h.constant) {
		return failure{&kind.Const{Got: v, Want: *h.constant}}
	}
	if h.enum == nil {
		return nil
	}
	if text, ok := v.(string); ok {
		if h.texts[text] {
			return nil
		}
	} else if slices.ContainsFunc(h.others, func(other any) bool { return h.c.equal(v, other) }) {
		return nil
	}
	return failure{&kind.Enum{Got: v, Want: h.enum}}
}

// text gives the text of what is wrong.
func text(k jsonschema.ErrorKind) string {
	switch own := k.(type) {
	case *kind.Format:
		if f, ok := own.Err.(failure); ok {
			return f.Error()
		}
		if value, ok := own.Got.(string); ok {
			k = &kind.Format{Got: quoted(value), Want: own.Want, Err: own.Err}
		}
	case *kind.Pattern:
		k = &kind.Pattern{Got: quoted(own.Got), Want: own.Want}
	}
	return k.LocalizedString(english)
}

// quoted cuts a text of the value to what is shown of it.
func quoted(text string) string {
	const most = 100
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}

// values counts v and what is in it.
func values(v any) int {
	n := 1
	switch v := v.(type) {
	case string:
		n += len(v) / 64
	case []any:
		for _, e := range v {
			n += values(e)
		}
	case map[string]any:
		for _, e := range v {
			n += values(e)
		}
	}
	return n
}

func typeOf(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case bool:
		return "boolean"
	case json.Number:
		return "number"
	case string:
		return "string"
	case []any:
		return "array"
	}
	return "object"
}

// whole reports whether a number is an integer, as 1, 1.0 and 10e-1 are.
func whole(n json.Number) bool {
	if !strings.ContainsAny(string(n), ".eE") {
		return true
	}
	r, ok := new(big.Rat).SetString(string(n))
	return ok && r.IsInt()
}

// equal compares two values as JSON Schema does: numbers by their value.
func (c *checker) equal(a, b any) bool {
	c.spend(1)
	switch a := a.(type) {
	case map[string]any:
		b, ok := b.(map[string]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for name, v := range a {
			other, ok := b[name]
			if !ok || !c.equal(v, other) {
				return false
			}
		}
		return true
	case []any:
		b, ok := b.([]any)
		return ok && slices.EqualFunc(a, b, c.equal)
	case json.Number:
		b, ok := b.(json.Number)
		if !ok || a == b {
			return ok
		}
		x, okX := new(big.Rat).SetString(string(a))
		y, okY := new(big.Rat).SetString(string(b))
		return okX && okY && x.Cmp(y) == 0
	case string:
		b, ok := b.(string)
		c.spend(len(b) / 64)
		return ok && a == b
	}
	return a == b
}

// pattern is a regular expression whose matches take steps.
type pattern struct {
	*regexp.Regexp
	c       *checker
	program int
}

// patternSteps is how many bytes by instructions of a regular expression make a step.
const patternSteps = 256

// MatchString reports whether text matches. Its time grows with text and expression.
func (p *pattern) MatchString(text string) bool {
	p.c.spend(1 + len(text)*p.program/patternSteps)
	return p.Regexp.MatchString(text)
}

// regexp compiles a regular expression of the schema or, where that says that a value has
// to be one ("format": "regex"), of the value.
func (c *checker) regexp(text string) (jsonschema.Regexp, error) {
	if p := c.patterns[text]; p != nil {
		return p, nil
	}
	n, err := program(text)
	if err != nil {
		return nil, err
	}
	switch {
	case c.checking:
		c.spend(n)
	case c.program+n > maxProgram:
		return nil, fmt.Errorf("regular expressions of more than %d instructions together: write fewer or shorter repetitions", maxProgram)
	default:
		c.program += n
	}
	re, err := regexp.Compile(text)
	if err != nil {
		return nil, err
	}
	p := &pattern{re, c, n}
	if !c.checking {
		c.patterns[text] = p
	}
	return p, nil
}
