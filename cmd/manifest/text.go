package manifest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"switchhook/scripts/scripttest"
	"switchhook/scripts/suggest"
	"switchhook/server/api"
)

// Each text lists the settings that apply manages, one a line: two states are equal if
// their texts are, and otherwise the diff of the texts is shown.

func eventTypeText(t *api.EventType) string {
	var b strings.Builder
	line(&b, "description", t.Description)
	if given := canonical(t.Schema); given != "null" {
		line(&b, "schema", given)
	}
	for _, sample := range t.Samples {
		line(&b, "sample", canonical(sample))
	}
	line(&b, "verify", t.Verify)
	return b.String()
}

func (s *Script) text() string {
	var b strings.Builder
	line(&b, "description", s.Description)
	line(&b, "source", s.Source)
	line(&b, "tests", casesText(s.Cases))
	return b.String()
}

// memberTexts returns the text of an object: one line a member, by its path. Members that are null,
// false or empty have none.
func memberTexts(members map[string]any) string {
	var b strings.Builder
	var add func(path string, v any)
	add = func(path string, v any) {
		switch v := v.(type) {
		case map[string]any:
			for _, name := range slices.Sorted(maps.Keys(v)) {
				add(strings.TrimPrefix(path+"."+name, "."), v[name])
			}
		case []any:
			list := make([]string, len(v))
			for i := range v {
				list[i] = fmt.Sprint(v[i])
			}
			line(&b, path, strings.Join(list, ", "))
		case nil:
		default:
			if v != false {
				line(&b, path, fmt.Sprint(v))
			}
		}
	}
	add("", members)
	return b.String()
}

// line writes "name: value", a multi-line value below its name, and nothing for an empty
// value.
func line(b *strings.Builder, name, value string) {
	switch {
	case value == "":
	case strings.Contains(value, "\n"):
		fmt.Fprintf(b, "%s:\n  %s\n", name, strings.ReplaceAll(value, "\n", "\n  "))
	default:
		fmt.Fprintf(b, "%s: %s\n", name, value)
	}
}

// canonical formats a JSON value on lines, with members sorted by name and numbers with all
// their digits.
func canonical(text json.RawMessage) string {
	if len(bytes.TrimSpace(text)) == 0 {
		return "null"
	}
	var v any
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if d.Decode(&v) != nil {
		return string(text)
	}
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if e.Encode(v) != nil {
		return string(text)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// casesText formats cases on lines; "" if there are none.
func casesText(cases []scripttest.Case) string {
	if len(cases) == 0 {
		return ""
	}
	text, err := json.Marshal(cases)
	if err != nil {
		return err.Error()
	}
	return canonical(text)
}

func plural(n int, noun string) string {
	if n == 1 {
		return noun
	}
	return noun + "s"
}

func didYouMean(name string, names []string) string {
	if meant := suggest.Closest(name, names); meant != "" {
		return fmt.Sprintf(": did you mean %q?", meant)
	}
	return ""
}
