package filter

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"unicode/utf8"

	"switchhook/scripts/jsonindex"
)

const (
	shownRunes  = 200 // of a text
	shownSource = 500 // runes of a term: a thousand terms may lie one in the other
	shownBytes  = 400 // of a list or an object, as JSON
	// wideObject is where finding out whether a member is missing or null would take long.
	wideObject = 1000
)

// shownValue gives a value for people to see, as something that encoding/json takes, and
// what it is where it is too large for that.
func shownValue(v any) (value any, summary string) {
	switch v := v.(type) {
	case string:
		return shownText(v)
	case bigInt:
		if len(v) > shownBytes {
			return nil, fmt.Sprintf("a number of %d digits", len(v))
		}
		return json.Number(strings.Clone(string(v))), ""
	case float64:
		if math.IsInf(v, 0) || math.IsNaN(v) {
			return nil, fmt.Sprintf("the number %v", v)
		}
	case list:
		return shownJSON(v.v.Raw(), fmt.Sprintf("a list of %d values", v.v.Len()))
	case jsonindex.Value:
		return shownJSON(v.Raw(), fmt.Sprintf("an object with %d members", v.Len()))
	case map[string]string:
		return shownMade(v, fmt.Sprintf("%d headers", len(v)), len(v))
	case []any:
		elements := make([]any, 0, min(len(v), shownBytes/2))
		summary = fmt.Sprintf("a list of %d values", len(v))
		for _, e := range v[:cap(elements)] {
			value, long := shownValue(e)
			if long != "" {
				return nil, summary
			}
			elements = append(elements, value)
		}
		return shownMade(elements, summary, len(v))
	}
	return v, ""
}

func shownText(s string) (value any, summary string) {
	n := 0
	for i := range s {
		if n == shownRunes {
			return s[:i] + "…", fmt.Sprintf("a text of %d characters", utf8.RuneCountInString(s))
		}
		n++
	}
	return s, ""
}

func shownJSON(raw []byte, summary string) (value any, _ string) {
	if len(raw) > shownBytes {
		return nil, summary
	}
	var compact bytes.Buffer
	if json.Compact(&compact, raw) != nil {
		return nil, summary
	}
	return json.RawMessage(compact.Bytes()), ""
}

// shownMade is for values of n parts that do not stand in the payload as they are.
func shownMade(v any, summary string, n int) (value any, _ string) {
	if n > shownBytes/2 { // each part takes two bytes at least
		return nil, summary
	}
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, summary
	}
	return shownJSON(raw, summary)
}

// missing tells whether the event has nothing at a path, not even null. Where that would
// take long to find out it says no.
func (in *Input) missing(p path) bool {
	if p[0].name == "headers" && len(p) == 2 && !p[1].isIndex {
		return in.header(p[1].name) == nil
	}
	if p[0].name != "data" || !in.rooted {
		return false
	}
	v := in.root
	for _, s := range p[1:] {
		if v.Len() > wideObject {
			return false
		}
		if s.isIndex {
			v = elementOf(v, s.at(v.Len()))
		} else {
			v = v.Get(s.name)
		}
	}
	return !v.Exists()
}

func elementOf(v jsonindex.Value, index int) jsonindex.Value {
	for i, e := range v.Elements() {
		if i == index {
			return e
		}
	}
	return jsonindex.Value{}
}
