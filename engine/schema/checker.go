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

// The step budget of a validation. A step is one subschema applied to a value, or 64 bytes
// compared. References that double make a validation endless, and the library has neither a
// bound nor a context.
const (
	minSteps     = 20_000
	stepsPerByte = 16
	// maxFailures is the maximum number of failures of one validation: the library stores them
	// all with their paths, even those within an anyOf of which another alternative matches.
	maxFailures   = 100_000
	ctxCheckSteps = 4096 // steps between two checks of the context
)

// checker is a compiled schema for one validation at a time. It hooks into the library in two
// places: as the "format" of every subschema, which the library validates before it descends,
// and as its engine of regular expressions.
type checker struct {
	compiled *jsonschema.Schema
	checking bool                // false while the schema is being compiled
	patterns map[string]*pattern // of the schema
	program  int                 // instructions of all patterns

	// State of the current validation.
	ctx        context.Context
	steps      int // left in the budget
	untilCheck int // steps until the next check of ctx
	failures   int
}

// stopped is the panic value with which hooks end a validation.
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

// check validates a value that was decoded from size bytes.
func (c *checker) check(ctx context.Context, doc any, size int) (err error) {
	if n, found := incomparable(doc); found {
		return &Problem{Message: fmt.Sprintf("holds the number %.20s…, which can't be checked: numbers may have %d digits, and an exponent up to that", n, maxDigits)}
	}
	c.ctx, c.steps, c.untilCheck, c.failures = ctx, minSteps+stepsPerByte*size, ctxCheckSteps, 0
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

var errSteps = &Problem{Message: "takes too many steps to validate: the schema visits the same value too often, or the value is too deep; simplify the schema"}

// spend charges n steps, and ends the validation if the budget is exceeded or the context ended.
func (c *checker) spend(n int) {
	if !c.checking {
		return
	}
	if c.steps -= n; c.steps < 0 {
		panic(stopped{errSteps})
	}
	if c.untilCheck -= n; c.untilCheck < 0 {
		c.untilCheck = ctxCheckSteps
		if err := c.ctx.Err(); err != nil {
			panic(stopped{err})
		}
	}
}

// incomparable returns a number that would take too long to compare.
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

// hook makes s charge the budget before it validates a value. The keywords that the library
// would validate before the format (type, const, enum) move into the hook.
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

// hook validates the keywords of one subschema that come first, and charges the budget.
type hook struct {
	c        *checker
	each     int // steps for each value
	unique   bool
	types    []string
	constant *any
	enum     []any
	texts    map[string]bool // of enum
	others   []any           // of enum
	format   *jsonschema.Format
}

// failure is the error of a hook.
type failure struct{ kind jsonschema.ErrorKind }

// Error returns the library's text, which is wrong for null.
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
		if h.unique { // the library compares up to 20 in pairs, more by hash
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

// text returns the error text of k.
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

// quoted truncates a text of the value.
func quoted(text string) string {
	const maxQuoted = 100
	if len(text) <= maxQuoted {
		return text
	}
	return strings.ToValidUTF8(text[:maxQuoted], "") + "…"
}

// values returns the number of values in v, itself included, and 64 bytes of text as one.
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

// equal compares two values as JSON Schema requires: numbers by their value.
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

// pattern is a regular expression whose matches charge the budget.
type pattern struct {
	*regexp.Regexp
	c       *checker
	program int
}

// patternSteps is the product of bytes and instructions that costs one step.
const patternSteps = 256

// MatchString reports whether text matches. Its time grows with both lengths.
func (p *pattern) MatchString(text string) bool {
	p.c.spend(1 + len(text)*p.program/patternSteps)
	return p.Regexp.MatchString(text)
}

// regexp compiles a regular expression of the schema or, for "format": "regex", of the value.
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
		return nil, fmt.Errorf("regular expressions of more than %d instructions together: use fewer or shorter repetitions", maxProgram)
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
