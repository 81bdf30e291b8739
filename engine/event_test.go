package engine

import (
	"strings"
	"testing"
	"time"
)

func TestEventType_ValidityAndPatterns(t *testing.T) {
	for s, valid := range map[string][2]bool{ // as a type, as a pattern
		"order.created": {true, true}, "order": {true, true}, "a.b-c/d:e_f.9": {true, true},
		"*": {false, true}, "order.*": {false, true}, "a.b.*": {false, true},
		"": {}, ".": {}, "a.": {}, ".a": {}, "a..b": {}, "a b": {}, "é": {}, "a.*.b": {}, "*.a": {}, "a*": {}, "order*": {}, "**": {}, ".*": {}, "a\x00": {}, "a\n": {},
		strings.Repeat("a", 128): {true, true}, strings.Repeat("a", 129): {},
	} {
		if got := [2]bool{ValidEventType(s), ValidPattern(s)}; got != valid {
			t.Errorf("%.20q: got %v, want %v", s, got, valid)
		}
	}
	for _, c := range []struct {
		pattern, event string
		want           bool
	}{
		{"*", "a", true}, {"a.*", "a.b", true}, {"a.*", "a", false}, {"a.*", "ab.c", false}, {"a.b", "a.b", true}, {"a.b", "a.bc", false},
	} {
		if MatchesPattern(c.pattern, c.event) != c.want {
			t.Errorf("%s on %s", c.pattern, c.event)
		}
	}
}

func TestEventInput_Digest(t *testing.T) {
	a := EventInput{Type: "a", Headers: map[string]string{"x": "1", "y": "2"}}
	same := EventInput{Type: "a", Headers: map[string]string{"y": "2", "x": "1"}}
	if a.Digest() != same.Digest() {
		t.Error("the order of headers counts")
	}
	for name, other := range map[string]EventInput{
		"type": {Type: "b", Headers: a.Headers}, "headers": {Type: "a", Headers: map[string]string{"x": "12", "y": ""}}, "time": {Type: "a", Headers: a.Headers, Time: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)},
	} {
		if other.Digest() == a.Digest() {
			t.Errorf("another %s does not count", name)
		}
	}
	if EventKeyHash("a", "bc") == EventKeyHash("ab", "c") || EventKeyHash("a", "b") == idempotencyKeyHash("a", "b", "") {
		t.Error("keys run into each other")
	}
}
