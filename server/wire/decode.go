// Package wire decodes JSON into the types of package api, strictly and with every error, and
// converts delivery settings between these types and the engine's.
package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"reflect"
	"slices"
	"strings"
	"time"

	"switchhook/engine"
	"switchhook/engine/rfc3339"
	"switchhook/scripts/jsonindex"
	"switchhook/scripts/suggest"
	"switchhook/server/api"
)

// Decode decodes an object into a struct, and returns what is wrong with each member. Members that
// the object lacks stay as they are, so that a change can be decoded into the current values.
// Unknown members are errors, since a misspelt one would be lost, except those in ignored. Whole
// numbers may be written with a fraction or an exponent: 10.0, 1e2.
func Decode(object jsonindex.Value, into any, ignored ...string) engine.FieldErrors {
	d := &decoder{}
	d.object("", object, reflect.ValueOf(into).Elem(), ignored)
	return d.errs
}

// DecodeValue decodes the value of a field as Decode does.
func DecodeValue(field string, v jsonindex.Value, into any) engine.FieldErrors {
	d := &decoder{}
	d.value(field, v, reflect.ValueOf(into).Elem())
	return d.errs
}

// Names returns the names of a struct's members.
func Names(v any) (names []string) {
	for _, f := range reflect.VisibleFields(reflect.TypeOf(v).Elem()) {
		if name := memberName(f); name != "" {
			names = append(names, name)
		}
	}
	return names
}

// unknownMember returns the error for an unknown member.
func unknownMember(name string, known []string) string {
	if meant := suggest.Closest(name, known); meant != "" {
		return fmt.Sprintf("is not known here; did you mean %q?", meant)
	}
	return "is not known here; the members are " + strings.Join(known, ", ")
}

// optional is an api.Optional.
type optional interface {
	Decode() any
	IsNull() bool
	IsZero() bool
}

// A hostile body must not cost much more than its parsing: decoding ends after maxErrors, and lists
// are limited far above what any member allows.
const (
	maxErrors   = 50
	maxElements = 10_000
)

type decoder struct{ errs engine.FieldErrors }

func memberName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	if name == "-" {
		return ""
	}
	return name
}

func (d *decoder) object(path string, v jsonindex.Value, into reflect.Value, ignored []string) {
	members := map[string]reflect.StructField{}
	for _, f := range reflect.VisibleFields(into.Type()) {
		if name := memberName(f); name != "" {
			members[name] = f
		}
	}
	for name, member := range v.Members() {
		if len(d.errs) >= maxErrors {
			return
		}
		f, known := members[name]
		field := strings.TrimPrefix(path+"."+name, ".")
		if !known {
			if !slices.Contains(ignored, name) {
				d.errs.Add(field, engine.FieldUnknown, "%s", unknownMember(name, Names(into.Addr().Interface())))
			}
			continue
		}
		if otherwise := f.Tag.Get("nonzero"); otherwise != "" && isZero(member, f.Type) {
			d.errs.Add(field, engine.FieldOutOfRange, "is %s; give a value, or %s", zeroName(member), otherwise)
			continue
		}
		d.value(field, member, into.FieldByIndex(f.Index))
	}
}

var durations = []reflect.Type{reflect.TypeFor[api.Duration](), reflect.TypeFor[*api.Duration](), reflect.TypeFor[api.Optional[api.Duration]]()}

// isZero reports whether v is 0, an empty text or, for a member that is a duration, "0s".
func isZero(v jsonindex.Value, t reflect.Type) bool {
	if v.Kind() == jsonindex.String && v.Text() != "" {
		if !slices.Contains(durations, t) {
			return false
		}
		span, err := time.ParseDuration(v.Text())
		return err == nil && span == 0
	}
	return v.Kind() == jsonindex.String || v.Kind() == jsonindex.Number && v.Float64() == 0
}

func zeroName(v jsonindex.Value) string {
	if v.Kind() == jsonindex.String && v.Text() == "" {
		return "empty"
	}
	return "0"
}

// value decodes v into a settable value.
func (d *decoder) value(field string, v jsonindex.Value, into reflect.Value) {
	null, before := v.Kind() == jsonindex.Null, len(d.errs)
	pointer := into.Addr().Interface()
	if o, ok := pointer.(optional); ok && !null {
		d.value(field, v, reflect.ValueOf(o.Decode()).Elem())
		return
	}
	_, own := pointer.(json.Unmarshaler)
	texter, isTexter := pointer.(api.Texter)
	switch t := into.Type(); {
	case t == reflect.TypeFor[time.Time]():
		d.time(field, v, pointer.(*time.Time))
	case t.Kind() == reflect.Pointer && !null:
		if into.IsNil() {
			into.Set(reflect.New(t.Elem()))
		}
		d.value(field, v, into.Elem())
		return
	case t == reflect.TypeFor[api.Retries]() && v.Kind() == jsonindex.Object:
		var backoff api.Backoff
		if d.value(field, v, reflect.ValueOf(&backoff).Elem()); len(d.errs) == before {
			*pointer.(*api.Retries) = backoff.Retries()
		}
	case isTexter && v.Kind() == jsonindex.String:
		texter.SetText(v.Text()) // "" is none
		return
	case t.Kind() == reflect.Struct && !own && v.Kind() == jsonindex.Object:
		d.object(field, v, into, nil)
	case t.Kind() == reflect.Slice && !own && v.Kind() == jsonindex.Array && t.Elem().Kind() != reflect.Slice:
		d.list(field, v, into)
	default:
		d.unmarshal(field, v.Raw(), pointer)
	}
	if checked, ok := pointer.(api.Checked); ok && !null && len(d.errs) == before {
		if member, problem := checked.Problem(); problem != "" {
			d.errs.Add(strings.TrimSuffix(field+"."+member, "."), engine.FieldInvalid, "%s", problem)
		}
	}
}

// list decodes a list. null is an element only of lists of pointers or of any values.
func (d *decoder) list(field string, v jsonindex.Value, into reflect.Value) {
	if v.Len() > maxElements {
		d.errs.Add(field, engine.FieldTooMany, "has %d entries; at most %d are allowed", v.Len(), maxElements)
		return
	}
	into.Set(reflect.MakeSlice(into.Type(), v.Len(), v.Len()))
	for i, element := range v.Elements() {
		at, into := fmt.Sprintf("%s[%d]", field, i), into.Index(i)
		switch kind := into.Kind(); {
		case len(d.errs) >= maxErrors:
			return
		case element.Kind() == jsonindex.Null && kind != reflect.Interface && kind != reflect.Pointer:
			d.errs.Add(at, engine.FieldInvalid, "must be %s, not null", typeName(into.Type()))
		default:
			d.value(at, element, into)
		}
	}
}

func (d *decoder) time(field string, v jsonindex.Value, into *time.Time) {
	err := rfc3339.ErrFormat
	if v.Kind() == jsonindex.String {
		*into, err = ParseTime(v.Text())
	}
	if err != nil && v.Kind() != jsonindex.Null {
		d.errs.Add(field, engine.FieldInvalid, "%v", err)
	}
}

func (d *decoder) unmarshal(field string, raw []byte, into any) {
	err := json.Unmarshal(wholeNumber(raw, reflect.TypeOf(into).Elem()), into)
	if wrong := (*json.UnmarshalTypeError)(nil); errors.As(err, &wrong) {
		if wrong.Field != "" {
			field += "." + wrong.Field
		} else if name := notText(raw); name != "" && reflect.TypeOf(into).Elem().Kind() == reflect.Map {
			field += "." + name
		}
		d.errs.Add(field, engine.FieldInvalid, "%s", mustBe(wrong))
	} else if err != nil {
		d.errs.Add(field, engine.FieldInvalid, "%v", err)
	}
}

var errYear = errors.New("must lie in the years 1970 to 9999")

// ParseTime parses a time of the API. The error follows the field's name.
func ParseTime(text string) (time.Time, error) {
	at, err := rfc3339.Parse(text)
	if err != nil {
		return at, fmt.Errorf("%.60q %w", text, err)
	}
	if year := at.UTC().Year(); year < 1970 || year > 9999 {
		return time.Time{}, errYear
	}
	return at, nil
}

// wholeNumber rewrites a whole number in the form that encoding/json requires for an integer.
func wholeNumber(raw []byte, t reflect.Type) []byte {
	if t.Kind() != reflect.Int && t.Kind() != reflect.Int64 || !bytes.ContainsAny(raw, ".eE") || len(raw) > 40 {
		return raw
	}
	n, ok := new(big.Rat).SetString(string(raw))
	if !ok || !n.IsInt() || !n.Num().IsInt64() {
		return raw
	}
	return []byte(n.Num().String())
}

// notText returns the first member of an object of texts that is neither a text nor null.
func notText(raw []byte) string {
	doc, err := jsonindex.Parse(raw, jsonindex.Limits{})
	if err != nil {
		return ""
	}
	for name, member := range doc.Root().Members() {
		if kind := member.Kind(); kind != jsonindex.String && kind != jsonindex.Null {
			return name
		}
	}
	return ""
}

// mustBe describes the expected and the actual type.
func mustBe(wrong *json.UnmarshalTypeError) string {
	if number, ok := strings.CutPrefix(wrong.Value, "number "); ok {
		if strings.ContainsAny(number, ".eE") {
			return fmt.Sprintf("must be a whole number, not %.40s", number)
		}
		return fmt.Sprintf("is out of range: %.40s", number)
	}
	return "must be " + typeName(wrong.Type) + ", not " + Article(wrong.Value)
}

func typeName(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[api.EventNames]():
		return "a string or a list of strings"
	case reflect.TypeFor[api.Retries]():
		return `a list such as ["0s", "5s", "1m"], or an object such as {"first": "5s", "factor": 2, "cap": "1h", "attempts": 10}`
	case reflect.TypeFor[api.Duration]():
		return "a string such as \"1m30s\", or a number of seconds"
	}
	switch t.Kind() {
	case reflect.Pointer:
		return typeName(t.Elem())
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	case reflect.Slice:
		return "a list"
	case reflect.Map, reflect.Struct:
		return "an object"
	}
	return "a number"
}

// Article returns the name of a kind of JSON value with its article.
func Article(kind string) string {
	if kind == "null" {
		return kind
	}
	if strings.ContainsRune("aeiou", rune(kind[0])) {
		return "an " + kind
	}
	return "a " + kind
}
