package filter

import (
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// The operators and functions that need no charge: their work is bounded by the filter's
// text. They replace expr's, so that nil means the same everywhere and errors name texts and
// numbers instead of Go types. expr's VM calls func(any, any) bool and similar types without
// allocating.
//
// A nil operand makes a comparison false and an arithmetic result nil.

func less(a, b any) bool           { c, ok := compare(a, b, "<"); return ok && c < 0 }
func lessOrEqual(a, b any) bool    { c, ok := compare(a, b, "<="); return ok && c <= 0 }
func greater(a, b any) bool        { c, ok := compare(a, b, ">"); return ok && c > 0 }
func greaterOrEqual(a, b any) bool { c, ok := compare(a, b, ">="); return ok && c >= 0 }

func compare(a, b any, op string) (int, bool) {
	switch x := a.(type) {
	case nil:
		return 0, false
	case int64:
		if y, ok := b.(int64); ok {
			return compareSame(x, y), true
		}
		if isNumber(b) {
			return compareNumbers(a, b), true
		}
	case float64, bigInt:
		if isNumber(b) {
			return compareNumbers(a, b), true
		}
	case string:
		if y, ok := b.(string); ok {
			return strings.Compare(x, y), true
		}
	}
	if b == nil {
		return 0, false
	}
	panic(faultf("%s can't be compared with %s: %s takes two numbers or two texts", describe(a), describe(b), op))
}

func notEqual(a, b any) bool { return !equal(a, b) }

// asBool converts a value to a condition; nil is false.
func asBool(v any) bool {
	switch v := v.(type) {
	case bool:
		return v
	case nil:
		return false
	}
	panic(faultf("%s is neither true nor false", describe(v)))
}

func startsWith(a, b any) bool {
	s, part, ok := texts(a, b, "startsWith")
	return ok && strings.HasPrefix(s, part)
}

func endsWith(a, b any) bool {
	s, part, ok := texts(a, b, "endsWith")
	return ok && strings.HasSuffix(s, part)
}

func texts(a, b any, op string) (string, string, bool) {
	if a == nil || b == nil {
		return "", "", false
	}
	x, ok := a.(string)
	if !ok {
		hint := ""
		switch a.(type) {
		case list, []any:
			hint = ": to search a list write `x in list`"
		}
		panic(faultf("%s works on texts, not on %s%s", op, describe(a), hint))
	}
	y, ok := b.(string)
	if !ok {
		panic(faultf("%s works on texts, not on %s", op, describe(b)))
	}
	return x, y, true
}

// set is a list of constants on the right of `in`.
type set struct {
	texts   map[string]struct{}
	longest int
	rest    []any // numbers and booleans
}

func newSet(constants []any) *set {
	s := &set{texts: make(map[string]struct{}, len(constants))}
	for _, c := range constants {
		switch c := c.(type) {
		case string:
			s.texts[c] = struct{}{}
			s.longest = max(s.longest, len(c))
		case nil: // nil is never in a list
		default:
			s.rest = append(s.rest, c)
		}
	}
	return s
}

func inSet(a, constants any) bool {
	s := constants.(constantSet).set
	if text, ok := a.(string); ok {
		if len(text) > s.longest { // a text longer than all constants is not hashed
			return false
		}
		_, ok = s.texts[text]
		return ok
	}
	if a == nil {
		return false
	}
	for _, c := range s.rest {
		if equal(a, c) {
			return true
		}
	}
	return false
}

// constantSet is a struct because expr follows bare pointers.
type constantSet struct{ *set }

func add(a, b any) any {
	if _, ok := a.(string); ok {
		panic(faultf("texts can't be joined in a filter: compare them one by one"))
	}
	return arithmetic(a, b, "+", func(x, y int64) (int64, bool) {
		z := x + y
		return z, (z > x) == (y > 0)
	}, func(x, y float64) float64 { return x + y })
}

func subtract(a, b any) any {
	return arithmetic(a, b, "-", func(x, y int64) (int64, bool) {
		z := x - y
		return z, (z < x) == (y > 0)
	}, func(x, y float64) float64 { return x - y })
}

func multiply(a, b any) any {
	return arithmetic(a, b, "*", func(x, y int64) (int64, bool) {
		z := x * y
		return z, x == 0 || z/x == y && !(x == -1 && y == math.MinInt64)
	}, func(x, y float64) float64 { return x * y })
}

func divide(a, b any) any {
	if isNumber(b) && number(b) == 0 {
		panic(faultf("division by zero"))
	}
	return arithmetic(a, b, "/", nil, func(x, y float64) float64 { return x / y })
}

func modulo(a, b any) any {
	if isNumber(b) && number(b) == 0 {
		panic(faultf("division by zero"))
	}
	return arithmetic(a, b, "%", func(x, y int64) (int64, bool) { return x % y, true }, math.Mod)
}

// arithmetic computes with integers if the result fits in 64 bits, otherwise with floats.
func arithmetic(a, b any, op string, ints func(x, y int64) (int64, bool), floats func(x, y float64) float64) any {
	if a == nil || b == nil {
		return nil
	}
	if !isNumber(a) || !isNumber(b) {
		panic(faultf("%s takes two numbers, not %s and %s", op, describe(a), describe(b)))
	}
	if ints != nil {
		x, okX := a.(int64)
		y, okY := b.(int64)
		if okX && okY {
			if z, fits := ints(x, y); fits {
				return z
			}
		}
	}
	return floats(number(a), number(b))
}

func number(v any) float64 {
	switch v := v.(type) {
	case int64:
		return float64(v)
	case float64:
		return v
	case bigInt:
		return v.float()
	}
	return math.NaN()
}

func negate(a any) any {
	if i, ok := a.(bigInt); ok {
		return i.negate()
	}
	return subtract(int64(0), a)
}

func plus(a any) any {
	if i, ok := a.(bigInt); ok {
		return i
	}
	return subtract(a, int64(0))
}

func absolute(a any) any { return round(a, "abs", math.Abs) }
func floor(a any) any    { return round(a, "floor", math.Floor) }
func ceil(a any) any     { return round(a, "ceil", math.Ceil) }
func nearest(a any) any  { return round(a, "round", math.Round) }

func round(a any, name string, how func(float64) float64) any {
	switch x := a.(type) {
	case nil:
		return nil
	case int64:
		if name == "abs" && x < 0 {
			return negate(x)
		}
		return x
	case bigInt:
		if _, sign := x.digits(); name == "abs" && sign < 0 {
			return x.negate()
		}
		return x
	case float64:
		return how(x)
	}
	panic(faultf("%s takes a number, not %s", name, describe(a)))
}

func minimum(a, b any) any { return extremum(a, b, "min", -1) }
func maximum(a, b any) any { return extremum(a, b, "max", 1) }

func extremum(a, b any, name string, sign int) any {
	if a == nil || b == nil {
		return nil
	}
	if !isNumber(a) || !isNumber(b) {
		panic(faultf("%s takes numbers, not %s and %s", name, describe(a), describe(b)))
	}
	if compareNumbers(a, b) == -sign {
		return b
	}
	return a
}

// longestNumber bounds the texts that int and float parse.
const longestNumber = 64

func toInt(a any) any {
	switch x := a.(type) {
	case nil, int64, bigInt:
		return x
	case float64:
		if x >= math.MinInt64 && x < math.MaxInt64 {
			return int64(x)
		}
	case string:
		if i, err := strconv.ParseInt(strings.TrimSpace(x[:min(len(x), longestNumber)]), 10, 64); err == nil && len(x) <= longestNumber {
			return i
		}
	}
	panic(faultf("int can't make an integer of %s", describe(a)))
}

func toFloat(a any) any {
	switch x := a.(type) {
	case nil, float64:
		return x
	case int64:
		return float64(x)
	case bigInt:
		return x.float()
	case string:
		f, err := strconv.ParseFloat(strings.TrimSpace(x[:min(len(x), longestNumber)]), 64)
		if err == nil && len(x) <= longestNumber && !math.IsNaN(f) {
			return f
		}
	}
	panic(faultf("float can't make a number of %s", describe(a)))
}

func toText(a any) any {
	switch x := a.(type) {
	case nil, string:
		return x
	case bool:
		return strconv.FormatBool(x)
	case int64:
		return strconv.FormatInt(x, 10)
	case bigInt:
		return string(x)
	case float64:
		return strconv.FormatFloat(x, 'f', -1, 64)
	}
	panic(faultf("string can't make a text of %s", describe(a)))
}

// sum adds the numbers of a list; nil elements are ignored.
func sum(a any) any {
	var total any = int64(0)
	for _, e := range a.([]any) {
		if e != nil {
			total = add(total, e)
		}
	}
	return total
}

// toInt64 converts the int counts of expr's VM to int64, the integer type of filters.
func toInt64(a any) any { return int64(a.(int)) }

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}
