package server

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	"switchhook/engine"
	"switchhook/scripts/jsonindex"
	"switchhook/server/api"
)

// statusWords maps the words that clients use for active.
var statusWords = map[string]bool{
	"active": true, "enabled": true, "on": true, "true": true, "yes": true, "1": true,
	"inactive": false, "paused": false, "disabled": false, "suspended": false, "stopped": false, "off": false, "false": false, "no": false, "0": false,
}

// statusWord parses a word or a number as active.
func statusWord(v jsonindex.Value) (active, ok bool) {
	text := v.Text()
	if v.Kind() == jsonindex.Number {
		text = string(v.Raw())
	}
	active, ok = statusWords[strings.ToLower(text)]
	return active, ok
}

// negated inverts a boolean value; any other value stays as it is, and the decoder refuses it.
func negated(v jsonindex.Value) jsonindex.Value {
	word, ok := statusWord(v)
	if v.Kind() == jsonindex.True || v.Kind() == jsonindex.False {
		word, ok = v.Kind() == jsonindex.True, true
	}
	if !ok {
		return v
	}
	doc, err := jsonindex.Parse(fmt.Append(nil, !word), jsonindex.Limits{})
	if err != nil {
		return v
	}
	return doc.Root()
}

// isBlank reports whether a value leaves its member unset.
func isBlank(v jsonindex.Value) bool {
	return v.Kind() == jsonindex.Null || v.Kind() == jsonindex.String && v.Text() == "" || v.Kind() == jsonindex.Array && v.Len() == 0
}

// canonical maps equivalent values to the same form.
func (t *aliasTranslation) canonical(ours string, v jsonindex.Value) string {
	switch ours {
	case "event":
		text := eventText(v)
		var list []string
		if json.Unmarshal(text, &list) == nil {
			return strings.Join(list, "\n")
		}
		var one string
		if json.Unmarshal(text, &one) == nil {
			return one
		}
	case "active":
		switch v.Kind() {
		case jsonindex.True, jsonindex.False:
			return string(v.Raw())
		default:
			if word, ok := statusWord(v); ok {
				return fmt.Sprint(word)
			}
		}
	}
	if v.Kind() == jsonindex.String {
		return v.Text()
	}
	return string(v.Raw())
}

// currentValue returns a stored subscription's value of a member.
func currentValue(ours string, sub *engine.Subscription) jsonindex.Value {
	var shown any
	switch ours {
	case "target_url":
		shown = sub.TargetURL
	case "event":
		shown = sub.Events
	case "active":
		shown = sub.Active
	default:
		return jsonindex.Value{}
	}
	text, err := encodeJSON(shown)
	if err != nil {
		return jsonindex.Value{}
	}
	doc, err := jsonindex.Parse(text, jsonindex.Limits{})
	if err != nil {
		return jsonindex.Value{}
	}
	return doc.Root()
}

// eventText returns the events in v as a JSON string or a list of strings: objects with a name become
// the name, and a text is split at its commas. Any other value stays as it is, and the decoder
// refuses it.
func eventText(v jsonindex.Value) []byte {
	name := func(v jsonindex.Value) []byte {
		if inner := v.Get("name"); inner.Kind() == jsonindex.String {
			return inner.Raw()
		}
		return v.Raw()
	}
	if v.Kind() == jsonindex.String && strings.Contains(v.Text(), ",") { // no event type contains one
		parts := strings.Split(v.Text(), ",")
		for i := range parts {
			parts[i] = strings.TrimSpace(parts[i])
		}
		text, _ := encodeJSON(parts)
		return text
	}
	if v.Kind() != jsonindex.Array {
		return name(v)
	}
	text := []byte{'['}
	for i, e := range v.Elements() {
		if i > 0 {
			text = append(text, ',')
		}
		text = append(text, name(e)...)
	}
	return append(text, ']')
}

// typed returns a member's JSON text. A form's values are all texts; those of members of another type are
// parsed as JSON.
func (t *aliasTranslation) typed(m aliasedField) []byte {
	if t.form && (m.name == "policy" || m.name == "batch" || m.name == "debounce") && m.value.Kind() == jsonindex.Object {
		return withNumbers(m.value)
	}
	if !t.form || m.value.Kind() != jsonindex.String {
		return m.value.Raw()
	}
	fields := reflect.TypeFor[api.SubscriptionRequest]()
	for i := range fields.NumField() {
		f := fields.Field(i)
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name == m.name && f.Type != reflect.TypeFor[api.Optional[string]]() && f.Type.Kind() != reflect.String && json.Valid([]byte(m.value.Text())) {
			return []byte(m.value.Text())
		}
	}
	return m.value.Raw()
}

// withNumbers returns an object of a form's texts, with numbers parsed.
func withNumbers(object jsonindex.Value) []byte {
	members := map[string]json.RawMessage{}
	for name, v := range object.Members() {
		members[name] = v.Raw()
		var number float64
		if v.Kind() == jsonindex.String && json.Unmarshal([]byte(v.Text()), &number) == nil {
			members[name] = json.RawMessage(strings.TrimSpace(v.Text()))
		}
	}
	text, err := json.Marshal(members)
	if err != nil { // the input was parsed as JSON before
		return object.Raw()
	}
	return text
}
