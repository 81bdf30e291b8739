package scripttest

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
)

// decoded decodes a JSON value with all digits of its numbers. The text must be valid.
func decoded(text []byte) (v any) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	_ = d.Decode(&v) // checked before
	return v
}

// generic converts a value to the form that decoding its JSON returns.
func generic(v any) any {
	text, err := marshal(v)
	if err != nil {
		return nil
	}
	if string(text) == "null" { // a nil map is equivalent to an empty one
		return map[string]any{}
	}
	return decoded(text)
}

// equal compares decoded values: objects in any order, numbers by value.
func equal(a, b any) bool {
	switch a := a.(type) {
	case map[string]any:
		b, ok := b.(map[string]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for name, value := range a {
			if other, have := b[name]; !have || !equal(value, other) {
				return false
			}
		}
		return true
	case []any:
		b, ok := b.([]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for i := range a {
			if !equal(a[i], b[i]) {
				return false
			}
		}
		return true
	case json.Number:
		b, ok := b.(json.Number)
		return ok && (a == b || decimalOf(string(a)) == decimalOf(string(b)))
	}
	return a == b
}

// part returns the part of got that want covers: the members that want names, at any depth.
func part(want, got any) any {
	w, isObject := want.(map[string]any)
	g, alsoObject := got.(map[string]any)
	if !isObject || !alsoObject {
		return got
	}
	found := make(map[string]any, len(w))
	for name, value := range w {
		if has, ok := g[name]; ok {
			found[name] = part(value, has)
		}
	}
	return found
}

// decimal is a number as 0.digits × 10^exponent, so that 1.50, 15e-1 and 1.5 are equal.
// It keeps the digits, since a float would change 9007199254740993.
type decimal struct {
	negative bool
	digits   string
	exponent int64
	rest     string // an exponent too large to compute with, as it is written
}

func decimalOf(text string) (d decimal) {
	text, d.negative = strings.CutPrefix(text, "-")
	text = strings.ToLower(text)
	mantissa, exponent, _ := strings.Cut(text, "e")
	whole, fraction, _ := strings.Cut(mantissa, ".")
	if exponent != "" {
		n, err := strconv.ParseInt(exponent, 10, 32)
		if err != nil {
			d.rest = exponent
		}
		d.exponent = n
	}
	digits := strings.TrimLeft(whole+fraction, "0")
	if digits == "" {
		return decimal{} // -0 is 0
	}
	d.exponent += int64(len(whole) - (len(whole+fraction) - len(digits)))
	d.digits = strings.TrimRight(digits, "0")
	return d
}
