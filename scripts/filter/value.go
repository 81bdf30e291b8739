package filter

import (
	"fmt"
	"math"
	"strconv"

	"switchhook/scripts/jsonindex"
)

// In a filter, a JSON value is nil (null or missing), bool, int64 (an integer that fits),
// bigInt (one that does not), float64, string, list (an array) or jsonindex.Value (an object,
// whose members are read on demand).

// maxList is the number of elements of an array that a filter may iterate over.
const maxList = 20_000

// list is an array whose elements are wrapped on iteration. It is a struct around a pointer
// because expr dereferences bare pointers.
type list struct{ *elements }

type elements struct {
	v   jsonindex.Value
	all []any // nil until first use
}

func wrap(v jsonindex.Value) any {
	switch v.Kind() {
	case jsonindex.True:
		return true
	case jsonindex.False:
		return false
	case jsonindex.Number:
		if i, ok := v.Int64(); ok {
			return i
		}
		if i, ok := readBigInt(v); ok {
			return i
		}
		return v.Float64()
	case jsonindex.String:
		return v.Text()
	case jsonindex.Array:
		return list{&elements{v: v}}
	case jsonindex.Object:
		return v
	}
	return nil
}

func (l list) open() []any {
	if l.all == nil {
		l.all = make([]any, 0, l.v.Len())
		for _, e := range l.v.Elements() {
			l.all = append(l.all, wrap(e))
		}
	}
	return l.all
}

// fault is an error of a run, with a message for the author.
type fault struct{ message string }

// Error returns the message.
func (f *fault) Error() string { return f.message }

func faultf(format string, args ...any) *fault { return &fault{fmt.Sprintf(format, args...)} }

// describe returns a value's description in messages: its kind, and the value if it is short.
func describe(v any) string {
	switch v := v.(type) {
	case nil:
		return "nil"
	case bool:
		return strconv.FormatBool(v)
	case int64:
		return "the number " + strconv.FormatInt(v, 10)
	case float64:
		return "the number " + strconv.FormatFloat(v, 'g', -1, 64)
	case bigInt:
		if len(v) > 60 {
			return "the number " + string(v[:40]) + "…"
		}
		return "the number " + string(v)
	case string:
		if r := []rune(v[:min(len(v), 200)]); len(r) > 40 {
			return "the text " + strconv.Quote(string(r[:40])+"…")
		}
		return "the text " + strconv.Quote(v)
	case list, []any:
		return "a list"
	case unreadable:
		return "a value too costly to look up"
	}
	return "an object"
}

func isContainer(v any) bool {
	switch v.(type) {
	case list, []any, jsonindex.Value, map[string]string, unreadable:
		return true
	}
	return false
}

// equal compares JSON values: values of different kinds differ, numbers are compared exactly.
func equal(a, b any) bool {
	switch x := a.(type) {
	case string:
		y, ok := b.(string)
		return ok && x == y
	case int64, float64, bigInt:
		if !isNumber(b) {
			return false
		}
		return compareNumbers(a, b) == 0
	case bool:
		y, ok := b.(bool)
		return ok && x == y
	case nil:
		return b == nil
	}
	if isContainer(b) {
		panic(faultf("%s and %s can't be compared as a whole: compare what is in them", describe(a), describe(b)))
	}
	return false
}

func isNumber(v any) bool {
	switch v.(type) {
	case int64, float64, bigInt:
		return true
	}
	return false
}

func compareNumbers(a, b any) int {
	if y, ok := b.(bigInt); ok {
		return -compareBigInt(y, a)
	}
	switch x := a.(type) {
	case bigInt:
		return compareBigInt(x, b)
	case int64:
		switch y := b.(type) {
		case int64:
			return compareSame(x, y)
		case float64:
			return compareIntFloat(x, y)
		}
	case float64:
		switch y := b.(type) {
		case int64:
			return -compareIntFloat(y, x)
		case float64:
			return compareSame(x, y)
		}
	}
	return 0
}

// compareSame compares two numbers of one type; NaN is equal to every number.
func compareSame[T int64 | float64](x, y T) int {
	switch {
	case x < y:
		return -1
	case x > y:
		return 1
	}
	return 0
}

// compareIntFloat compares exactly, also beyond 2^53, where converting x to float64 rounds.
func compareIntFloat(x int64, y float64) int {
	if y >= math.MaxInt64 { // that constant rounds up to 2^63
		return -1
	}
	if y < math.MinInt64 {
		return 1
	}
	whole := int64(y)
	if x != whole {
		return compareSame(x, whole)
	}
	return compareSame(0, y-float64(whole))
}
