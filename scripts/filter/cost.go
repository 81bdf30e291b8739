package filter

import (
	"bytes"
	"regexp"
	"strings"
	"unicode/utf8"

	"switchhook/scripts/jsonindex"
)

// Functions whose work depends on the payload charge their cost, in units of about a
// nanosecond, to the running filter's budget before they start. The cost of a value does not
// depend on whether another filter has already paid for it, so that a filter's verdict
// depends on the event alone.
const (
	budget    = 5_000_000       // units for one Match
	stepUnits = budget / 10_000 // minimum cost of one element of a predicate: 10,000 of them fit in the budget
	nodeUnits = 20              // for each node of a predicate's body beyond that
)

func (in *Input) charge(units int) {
	in.budgetLeft -= units
	if in.budgetLeft < 0 {
		panic(errBudget)
	}
}

var errBudget = &fault{"filter exceeded its step budget: it does too much work on this event"}

// metered returns the functions that charge, by the names that the rewriter gives them; in may be
// nil if only their types are used.
func (in *Input) metered() map[string]any {
	functions := map[string]any{
		"contains": in.contains, "matches": in.matches, "in": in.in,
		"len": in.len, "indexOf": in.indexOf, "member": in.member, "list": in.list,
		"lower":           func(a any) any { return in.mapText(a, "lower", strings.ToLower) },
		"upper":           func(a any) any { return in.mapText(a, "upper", strings.ToUpper) },
		"trim":            func(a any) any { return in.mapText(a, "trim", strings.TrimSpace) },
		"first":           func(a any) any { return in.member(a, int64(0)) },
		"last":            func(a any) any { return in.member(a, int64(-1)) },
		"chargeCondition": in.chargeCondition, "chargeValue": in.chargeValue,
	}
	for operator, compare := range comparisons {
		functions[operator] = func(a, b any) bool {
			in.chargeBoth(a, b)
			return compare(a, b)
		}
	}
	byName := make(map[string]any, len(functions))
	for name, function := range functions {
		byName[meteredName(name)] = function
	}
	return byName
}

// meteredName is the name of a metered function in the environment. No path has such a name.
func meteredName(function string) string { return "(" + function + ")" }

func (in *Input) bind() {
	for name, fn := range in.metered() {
		in.env[name] = fn
	}
}

// chargeBoth charges for comparing two texts byte by byte.
func (in *Input) chargeBoth(a, b any) {
	x, _ := a.(string)
	y, _ := b.(string)
	in.charge(min(len(x), len(y)) / 8)
}

func (in *Input) contains(a, b any) bool {
	s, part, ok := texts(a, b, "contains")
	in.charge(len(s))
	return ok && strings.Contains(s, part)
}

func (in *Input) indexOf(a, b any) any {
	s, part, ok := texts(a, b, "indexOf")
	if !ok {
		return nil
	}
	in.charge(len(s))
	return int64(strings.Index(s, part))
}

// pattern is a constant regular expression; units is its maximum cost per byte, since Go's
// matcher may keep as many states alive as the program has instructions.
type pattern struct {
	*regexp.Regexp
	units int
}

func (in *Input) matches(a, constant any) bool {
	p := constant.(pattern)
	s, _, ok := texts(a, "", "matches")
	if !ok {
		return false
	}
	in.charge(len(s) * p.units)
	return p.MatchString(s)
}

func (in *Input) in(a, b any) bool {
	if a == nil {
		return false
	}
	switch b := b.(type) {
	case nil:
		return false
	case list:
		return in.inArray(a, b.v)
	case []any:
		in.charge(10 * len(b))
		for _, e := range b {
			if e != nil && equalScalar(a, e) {
				return true
			}
		}
		return false
	case jsonindex.Value:
		name, ok := a.(string)
		if !ok {
			panic(faultf("an object's members have texts for names, not %s", describe(a)))
		}
		in.chargeLookup(b)
		return b.Get(name).Exists()
	case map[string]string:
		name, ok := a.(string)
		if !ok {
			panic(faultf("headers have texts for names, not %s", describe(a)))
		}
		in.charge(len(b) * (10 + len(name)))
		return headerOf(b, name) != nil
	case string:
		panic(faultf("`in` looks through a list or an object: to search a text write `text contains part`"))
	}
	panic(faultf("`in` needs a list or an object on its right, not %s", describe(b)))
}

// inArray reports whether an array contains a, without wrapping its elements.
func (in *Input) inArray(a any, v jsonindex.Value) bool {
	in.charge(8 * v.Len())
	switch x := a.(type) {
	case string:
		in.chargeText(v)
		for _, e := range v.Elements() {
			if e.Kind() == jsonindex.String && e.Text() == x {
				return true
			}
		}
	case bool:
		for _, e := range v.Elements() {
			if x && e.Kind() == jsonindex.True || !x && e.Kind() == jsonindex.False {
				return true
			}
		}
	case int64, float64, bigInt:
		in.charge(60*v.Len() + len(v.Raw())/4)
		for _, e := range v.Elements() {
			if e.Kind() == jsonindex.Number && equal(x, wrap(e)) {
				return true
			}
		}
	}
	return false
}

func equalScalar(a, b any) bool {
	return !isContainer(a) && !isContainer(b) && equal(a, b)
}

// chargeText charges for reading the texts in v: little if they have no escapes, more if
// escapes must be decoded.
func (in *Input) chargeText(v jsonindex.Value) {
	raw := v.Raw()
	in.charge(len(raw) / 8)
	if bytes.IndexByte(raw, '\\') >= 0 {
		in.charge(8*len(raw) + 300*min(v.Size(), bytes.Count(raw, []byte{'\\'})))
	}
}

// chargeLookup charges for searching the names of an object.
func (in *Input) chargeLookup(v jsonindex.Value) {
	in.charge(6 * v.Len())
	if v.Len() > 16 {
		in.charge(300 * min(v.Len(), bytes.Count(v.Raw(), []byte{'\\'})))
	}
}

// member charges for and returns a member or an element; nil if there is none, for any a.
func (in *Input) member(a, key any) any {
	switch a := a.(type) {
	case jsonindex.Value:
		if name, ok := key.(string); ok {
			in.chargeLookup(a)
			m := a.Get(name)
			if m.Kind() == jsonindex.String {
				in.chargeText(m)
			}
			return wrap(m)
		}
	case list:
		if index, ok := key.(int64); ok {
			in.charge(5 * a.v.Len())
			return element(a, index)
		}
	}
	return member(a, key)
}

// member returns a member or an element without a charge; nil if there is none.
func member(a, key any) any {
	switch a := a.(type) {
	case []any:
		if index, ok := key.(int64); ok {
			if index < 0 {
				index += int64(len(a))
			}
			if index >= 0 && index < int64(len(a)) {
				return a[index]
			}
		}
	case list:
		if index, ok := key.(int64); ok {
			return element(a, index)
		}
	case map[string]string:
		if name, ok := key.(string); ok {
			return headerOf(a, name)
		}
	}
	return nil
}

func element(l list, index int64) any {
	n := int64(l.v.Len())
	if index < 0 {
		index += n
	}
	if index < 0 || index >= n {
		return nil
	}
	if l.all != nil {
		return l.all[index]
	}
	for i, e := range l.v.Elements() {
		if int64(i) == index {
			return wrap(e)
		}
	}
	return nil
}

// list returns the elements that a predicate iterates over; nil is an empty list.
func (in *Input) list(a, name any) []any {
	switch a := a.(type) {
	case nil:
		return nil
	case []any:
		return a
	case list:
		if a.v.Len() > maxList {
			panic(faultf("%s holds more than 20,000 values: too large for a filter", name))
		}
		in.charge(50 * a.v.Len())
		in.chargeText(a.v)
		return a.open()
	}
	panic(faultf("%s must be a list, but it is %s", name, describe(a)))
}

// chargeCondition ends each iteration of a predicate whose result is a condition: it charges
// the iteration's cost and returns the verdict.
func (in *Input) chargeCondition(verdict, units any) bool {
	in.charge(units.(int))
	return asBool(verdict)
}

// chargeValue ends each iteration of a predicate whose result is any value: it charges the
// iteration's cost and returns the result.
func (in *Input) chargeValue(result, units any) any {
	in.charge(units.(int))
	return result
}

func (in *Input) len(a any) any {
	switch a := a.(type) {
	case nil:
		return nil
	case string:
		in.charge(2 * len(a))
		return int64(utf8.RuneCountInString(a))
	case []any:
		return int64(len(a))
	case list:
		return int64(a.v.Len())
	case jsonindex.Value:
		return int64(a.Len())
	case map[string]string:
		return int64(len(a))
	}
	panic(faultf("len takes a text, a list or an object, not %s", describe(a)))
}

func (in *Input) mapText(a any, name string, how func(string) string) any {
	s, _, ok := texts(a, "", name)
	if !ok {
		return nil
	}
	in.charge(3 * len(s))
	if !isASCII(s) {
		in.charge(18 * len(s))
	}
	return how(s)
}
