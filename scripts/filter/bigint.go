package filter

import (
	"math"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/parser/lexer"

	"switchhook/scripts/jsonindex"
)

// bigInt is an integer that does not fit in int64, in the digits of JSON: no leading zero,
// no +. Comparing two needs no arithmetic and no memory.
type bigInt string

// readBigInt returns a JSON number as a bigInt. ok is false if it has a fraction or exponent.
func readBigInt(v jsonindex.Value) (i bigInt, ok bool) {
	raw := v.Raw()
	if len(raw) < 19 {
		return "", false
	}
	for n, c := range raw {
		if (c < '0' || c > '9') && !(n == 0 && c == '-') {
			return "", false
		}
	}
	return bigInt(raw), true
}

func (i bigInt) float() float64 {
	f, _ := strconv.ParseFloat(string(i), 64) // ±Inf beyond its range
	return f
}

func (i bigInt) digits() (digits string, sign int) {
	if rest, ok := strings.CutPrefix(string(i), "-"); ok {
		return rest, -1
	}
	return string(i), 1
}

func (i bigInt) negate() bigInt {
	if digits, sign := i.digits(); sign < 0 {
		return bigInt(digits)
	}
	return "-" + i
}

// negativeInteger returns -i, which may fit in int64.
func negativeInteger(i bigInt) any {
	if small, err := strconv.ParseInt("-"+string(i), 10, 64); err == nil {
		return small
	}
	return i.negate()
}

// compareBigInt compares i with any number exactly.
func compareBigInt(i bigInt, b any) int {
	x, sign := i.digits()
	other, isBig := b.(bigInt)
	if f, ok := b.(float64); ok {
		switch {
		case math.IsNaN(f):
			return 0 // NaN, as in compareSame
		case math.IsInf(f, 0):
			return compareSame(0, f)
		case math.Abs(f) >= 1<<63:
			other, isBig = bigInt(strconv.FormatFloat(f, 'f', 0, 64)), true
		}
	}
	if !isBig { // fits in int64, or is nearer to 0
		return sign
	}
	y, otherSign := other.digits()
	switch {
	case sign != otherSign:
		return sign
	case len(x) != len(y):
		return sign * compareSame(int64(len(x)), int64(len(y)))
	}
	return sign * strings.Compare(x, y)
}

var manyDigits = regexp.MustCompile(`[0-9]{19}`)

// withoutBigInts replaces integers that do not fit in int64, which expr's parser refuses, by
// floats of the same length, so that all positions stay valid. literals maps the position of
// each one's first character to the integer.
func withoutBigInts(source string) (text string, literals map[int]bigInt) {
	if !manyDigits.MatchString(source) {
		return source, nil
	}
	tokens, err := lexer.Lex(file.NewSource(source))
	if err != nil {
		return source, nil
	}
	var runes []rune
	for _, t := range tokens {
		if t.Kind != lexer.Number || len(t.Value) < 19 || strings.Trim(t.Value, "0123456789") != "" {
			continue
		}
		digits := strings.TrimLeft(t.Value, "0")
		if _, err := strconv.ParseInt(digits, 10, 64); err == nil || len(digits) < 19 {
			continue
		}
		if runes == nil {
			runes, literals = []rune(source), map[int]bigInt{}
		}
		literals[t.From] = bigInt(digits)
		exponent := []rune("e0")
		copy(runes[t.From+utf8.RuneCountInString(t.Value)-len(exponent):], exponent)
	}
	if runes == nil {
		return source, nil
	}
	return string(runes), literals
}
