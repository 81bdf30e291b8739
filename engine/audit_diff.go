package engine

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode"
)

const (
	maxAuditBytes  = 16 << 10 // of Before and of After
	maxAuditMember = 512      // bytes of JSON of one member, if the whole is too long
)

// Describe records the differences between two states of an object; either may be nil.
func (entry *AuditEntry) Describe(before, after any) {
	old, now := fieldsOf(before), fieldsOf(after)
	for name, value := range now {
		if was, ok := old[name]; !ok || !reflect.DeepEqual(was, value) {
			entry.Changed = append(entry.Changed, name)
		}
	}
	for name := range old {
		if _, ok := now[name]; !ok {
			entry.Changed = append(entry.Changed, name)
		}
	}
	slices.Sort(entry.Changed)
	entry.Before, entry.After = old.hiding(before).text(), now.hiding(after).text()
}

// members are an object's fields by their names in the API.
type members map[string]any

// ignoredFields are fields that do not describe a change: the entry has them, or they follow from
// it.
var ignoredFields = []string{"ID", "Version", "CreatedAt", "UpdatedAt", "LastUsedAt"}

// fieldsOf returns the non-zero fields of the struct that v points to. It uses reflection, so that
// a new field is recorded without a change here.
func fieldsOf(v any) members {
	if v == nil {
		return nil
	}
	s := reflect.ValueOf(v).Elem()
	_, isVersion := v.(*ScriptVersion)
	doc := members{}
	for i := range s.NumField() {
		field := s.Type().Field(i)
		if field.Type == reflect.TypeFor[[32]byte]() || slices.Contains(ignoredFields, field.Name) || isEmpty(s.Field(i)) {
			continue // a hash describes a key's text
		}
		if isVersion && field.Name == "Script" {
			continue // it is the subject
		}
		doc[memberName(field)] = jsonValue(s.Field(i))
	}
	return doc
}

func isEmpty(v reflect.Value) bool {
	if k := v.Kind(); k == reflect.Map || k == reflect.Slice {
		return v.Len() == 0
	}
	return v.IsZero()
}

// hiding hides the header values of m if v is a subscription.
func (m members) hiding(v any) members {
	if s, ok := v.(*Subscription); ok && m["headers"] != nil {
		m["headers"] = jsonValue(reflect.ValueOf(s.ShownHeaders()))
	}
	return m
}

// memberName returns a field's name in JSON: its tag, or "target_url" for TargetURL.
func memberName(field reflect.StructField) string {
	if name, _, _ := strings.Cut(field.Tag.Get("json"), ","); name != "" {
		return name
	}
	var name strings.Builder
	letters := []rune(field.Name)
	for i, c := range letters {
		starts := i > 0 && unicode.IsUpper(c) && (unicode.IsLower(letters[i-1]) || i+1 < len(letters) && unicode.IsLower(letters[i+1]))
		if starts {
			name.WriteByte('_')
		}
		name.WriteRune(unicode.ToLower(c))
	}
	return name.String()
}

// jsonValue converts a field's value to a JSON value.
func jsonValue(v reflect.Value) any {
	switch value := v.Interface().(type) {
	case time.Time:
		return value.Format(time.RFC3339Nano)
	case time.Duration:
		return value.String()
	case ScriptRef:
		ref := map[string]any{"id": value.Script.Format(ScriptPrefix)}
		if value.Version != 0 {
			ref["version"] = value.Version
		}
		return ref
	case []byte:
		if json.Valid(value) {
			return json.RawMessage(value)
		}
		return fmt.Sprintf("[%d bytes]", len(value))
	}
	switch v.Kind() {
	case reflect.Struct:
		inner := map[string]any{}
		for i := range v.NumField() {
			if !v.Field(i).IsZero() {
				inner[memberName(v.Type().Field(i))] = jsonValue(v.Field(i))
			}
		}
		return inner
	case reflect.Map:
		inner := map[string]any{}
		for _, key := range v.MapKeys() {
			inner[key.String()] = jsonValue(v.MapIndex(key))
		}
		return inner
	case reflect.Slice:
		list := make([]any, v.Len())
		for i := range list {
			list[i] = jsonValue(v.Index(i))
		}
		return list
	case reflect.Pointer, reflect.Interface:
		if v.IsNil() {
			return nil
		}
		return jsonValue(v.Elem())
	}
	return v.Interface()
}

// HideCredentialMembers replaces the values in decoded JSON whose names mark them as credentials.
func HideCredentialMembers(v any) any { return redact(v) }

// redact replaces every value whose name marks it as a credential.
func redact(v any) any {
	switch v := v.(type) {
	case members:
		return redact(map[string]any(v))
	case map[string]any:
		shown := make(map[string]any, len(v))
		for name, value := range v {
			if hidesMember(name) {
				shown[name] = RedactedValue
			} else {
				shown[name] = redact(value)
			}
		}
		return shown
	case []any:
		shown := make([]any, len(v))
		for i, value := range v {
			shown[i] = redact(value)
		}
		return shown
	}
	return v
}

// text returns the document as it is stored: without credentials, at most maxAuditBytes long.
func (m members) text() []byte {
	if m == nil {
		return nil
	}
	shown := redact(m).(map[string]any)
	text := auditJSON(shown)
	if len(text) <= maxAuditBytes {
		return text
	}
	for name, value := range shown {
		if n := len(auditJSON(value)); n > maxAuditMember {
			shown[name] = fmt.Sprintf("[%d bytes]", n)
		}
	}
	return auditJSON(shown)
}

func auditJSON(v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // only strings, numbers, lists, maps and valid JSON
	}
	return text
}
