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
	maxDisplayRunes = 200 // of a text
	maxTermRunes    = 500 // runes of a term: a thousand terms may be nested
	maxDisplayBytes = 400 // of a list or an object, as JSON
	// wideObject is the size at which telling a missing member from a null one takes too long.
	wideObject = 1000
)

// displayValue returns a value that encoding/json can encode, or a summary of one that is too
// large to display.
func displayValue(v any) (value any, summary string) {
	switch v := v.(type) {
	case string:
		return displayText(v)
	case bigInt:
		if len(v) > maxDisplayBytes {
			return nil, fmt.Sprintf("a number of %d digits", len(v))
		}
		return json.Number(strings.Clone(string(v))), ""
	case float64:
		if math.IsInf(v, 0) || math.IsNaN(v) {
			return nil, fmt.Sprintf("the number %v", v)
		}
	case list:
		return displayJSON(v.v.Raw(), fmt.Sprintf("a list of %d values", v.v.Len()))
	case jsonindex.Value:
		return displayJSON(v.Raw(), fmt.Sprintf("an object with %d members", v.Len()))
	case map[string]string:
		return displayDerived(v, fmt.Sprintf("%d headers", len(v)), len(v))
	case []any:
		elements := make([]any, 0, min(len(v), maxDisplayBytes/2))
		summary = fmt.Sprintf("a list of %d values", len(v))
		for _, e := range v[:cap(elements)] {
			value, long := displayValue(e)
			if long != "" {
				return nil, summary
			}
			elements = append(elements, value)
		}
		return displayDerived(elements, summary, len(v))
	}
	return v, ""
}

func displayText(s string) (value any, summary string) {
	n := 0
	for i := range s {
		if n == maxDisplayRunes {
			return s[:i] + "…", fmt.Sprintf("a text of %d characters", utf8.RuneCountInString(s))
		}
		n++
	}
	return s, ""
}

func displayJSON(raw []byte, summary string) (value any, _ string) {
	if len(raw) > maxDisplayBytes {
		return nil, summary
	}
	var compact bytes.Buffer
	if json.Compact(&compact, raw) != nil {
		return nil, summary
	}
	return json.RawMessage(compact.Bytes()), ""
}

// displayDerived displays a value of n parts that is not a part of the payload.
func displayDerived(v any, summary string, n int) (value any, _ string) {
	if n > maxDisplayBytes/2 { // each part is at least two bytes
		return nil, summary
	}
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, summary
	}
	return displayJSON(raw, summary)
}

// missing reports whether the event has no value at a path, not even null. It returns false
// if the search would take too long.
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
