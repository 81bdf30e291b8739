package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"mime"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/gofiber/fiber/v2"

	"switchhook/scripts/jsonindex"
	"switchhook/scripts/suggest"
	"switchhook/server/api"
)

// readJSON parses a request's body. The document owns its memory and may outlive the request.
func readJSON(c *fiber.Ctx) (*jsonindex.Doc, error) {
	if ct := c.Get(fiber.HeaderContentType); ct != "" {
		media, err := mediaType(c)
		if err != nil {
			return nil, err
		}
		if media != fiber.MIMEApplicationJSON && !strings.HasSuffix(media, "+json") {
			return nil, newProblem(fiber.StatusUnsupportedMediaType, fmt.Sprintf("the body must be JSON: send it with \"Content-Type: application/json\", not %q", ct))
		}
	}
	body, err := plainBody(c)
	if err != nil {
		return nil, err
	}
	return jsonindex.Parse(body, jsonindex.Limits{NoDuplicates: true})
}

// plainBody returns a copy of a request's body, since Fiber reuses the memory.
func plainBody(c *fiber.Ctx) ([]byte, error) {
	if err := checkEncoding(c); err != nil {
		return nil, err
	}
	return slices.Clone(withoutBOM(c.BodyRaw())), nil
}

// withoutBOM removes the byte order mark that some Windows programs write before UTF-8: a parser
// may ignore it (RFC 8259, section 8.1).
func withoutBOM(body []byte) []byte { return bytes.TrimPrefix(body, []byte("\xef\xbb\xbf")) }

func checkEncoding(c *fiber.Ctx) error {
	for _, line := range c.Request().Header.PeekAll(fiber.HeaderContentEncoding) {
		for coding := range strings.SplitSeq(string(line), ",") {
			if coding = strings.TrimSpace(coding); coding != "" && !strings.EqualFold(coding, "identity") {
				return newProblem(fiber.StatusUnsupportedMediaType, fmt.Sprintf("the body must be sent without Content-Encoding, not with %.60q", line))
			}
		}
	}
	return nil
}

// mediaType returns the media type of a body, in lower case and without parameters; "" if there is
// none or it can't be parsed. It returns an error if the charset is not UTF-8; a body of ASCII
// alone is UTF-8 under any charset.
func mediaType(c *fiber.Ctx) (string, error) {
	media, parameters, err := mime.ParseMediaType(c.Get(fiber.HeaderContentType))
	if err != nil && !errors.Is(err, mime.ErrInvalidMediaParameter) {
		return "", nil
	}
	charset := parameters["charset"]
	if charset == "" || strings.EqualFold(charset, "utf-8") || strings.EqualFold(charset, "utf8") {
		return media, nil
	}
	for _, b := range c.BodyRaw() {
		if b == 0 || b >= utf8.RuneSelf {
			return "", newProblem(fiber.StatusUnsupportedMediaType, fmt.Sprintf("the body must be in UTF-8, not in the charset %.60q", charset))
		}
	}
	return media, nil
}

// readObject decodes a request's body into a struct. It refuses members that the struct does not
// have, since a misspelt one would be lost; members in shown are in responses, and are accepted and
// ignored. present holds the members that the body has.
func readObject(c *fiber.Ctx, into any, shown ...string) (present map[string]jsonindex.Value, err error) {
	doc, err := readJSON(c)
	if err != nil {
		return nil, err
	}
	return decodeObject(doc.Root(), into, shown...)
}

func decodeObject(root jsonindex.Value, into any, shown ...string) (present map[string]jsonindex.Value, err error) {
	if err := wantObject(root); err != nil {
		return nil, err
	}
	known, fields := fieldNames(into), reflect.ValueOf(into).Elem()
	present = map[string]jsonindex.Value{}
	for name, value := range root.Members() {
		present[name] = value
		i := slices.Index(known, name)
		if i < 0 && !slices.Contains(shown, name) {
			return nil, invalidField(name, unknownMember(name, known))
		}
		if i >= 0 {
			if err := readValue(name, value.Raw(), fields.Field(i).Addr().Interface()); err != nil {
				return nil, err
			}
		}
	}
	return present, nil
}

// unknownMember returns the error for an unknown member.
func unknownMember(name string, known []string) string {
	if meant := suggest.Closest(name, known); meant != "" {
		return fmt.Sprintf("is not known here; did you mean %q?", meant)
	}
	return "is not known here; there are " + strings.Join(known, ", ")
}

// notZero refuses a 0 if leaving the member out means something else.
func notZero(present map[string]jsonindex.Value, names ...string) error {
	for _, name := range names {
		if v := present[name]; v.Kind() == jsonindex.Number && v.Float64() == 0 {
			return invalidField(name, "is 0; give more, or leave it out")
		}
	}
	return nil
}

// notEmpty refuses an empty text if leaving the member out means something else, so that an unset
// variable does not pass for an omitted member.
func notEmpty(present map[string]jsonindex.Value, names ...string) error {
	for _, name := range names {
		if v := present[name]; v.Kind() == jsonindex.String && v.Text() == "" {
			return invalidField(name, "is empty; give a value, or leave it out")
		}
	}
	return nil
}

// readMembers decodes the object in field into a struct; it treats unknown members as readObject
// does. present holds the members that the object has.
func readMembers(field string, raw []byte, into any) (present map[string]jsonindex.Value, err error) {
	doc, err := jsonindex.Parse(raw, jsonindex.Limits{})
	if err != nil {
		return nil, err
	}
	root := doc.Root()
	if root.Kind() != jsonindex.Object {
		return nil, invalidField(field, "must be an object, not "+article(root.Kind().String()))
	}
	known, fields := fieldNames(into), reflect.ValueOf(into).Elem()
	present = map[string]jsonindex.Value{}
	for name, value := range root.Members() {
		i := slices.Index(known, name)
		if i < 0 {
			return nil, invalidField(field+"."+name, unknownMember(name, known))
		}
		present[name] = value
		if err := readValue(field+"."+name, value.Raw(), fields.Field(i).Addr().Interface()); err != nil {
			return nil, err
		}
	}
	return present, nil
}

// readValue decodes the value of field. Whole numbers may be written with a fraction or an exponent:
// 10.0, 1e2.
func readValue(field string, raw []byte, into any) error {
	if optional, ok := into.(interface{ Decode() any }); ok && !isNull(raw) {
		return readValue(field, raw, optional.Decode())
	}
	if at, ok := into.(**time.Time); ok {
		return readTime(field, raw, at)
	}
	if v := reflect.ValueOf(into).Elem(); v.Kind() == reflect.Pointer && v.Type().Elem().Kind() == reflect.Struct && !isNull(raw) {
		if _, own := into.(json.Unmarshaler); !own && !v.Type().Implements(reflect.TypeFor[json.Unmarshaler]()) {
			if v.IsNil() {
				v.Set(reflect.New(v.Type().Elem()))
			}
			_, err := readMembers(field, raw, v.Interface())
			return err
		}
	}
	err := json.Unmarshal(wholeNumber(raw, reflect.TypeOf(into).Elem()), into)
	if wrong := (*json.UnmarshalTypeError)(nil); errors.As(err, &wrong) {
		if wrong.Field != "" {
			field += "." + wrong.Field
		} else if name := notText(raw); name != "" && reflect.TypeOf(into).Elem().Kind() == reflect.Map {
			field += "." + name
		}
		return invalidField(field, mustBe(wrong))
	}
	if err != nil {
		return invalidField(field, err.Error())
	}
	return nil
}

// readTime decodes a time; null means not given.
func readTime(field string, raw []byte, into **time.Time) error {
	var t timestamp
	if err := t.UnmarshalJSON(raw); err != nil {
		return invalidField(field, err.Error())
	}
	*into = timeOrNull(t.Time)
	return nil
}

// wholeNumber rewrites a whole number in the form that encoding/json requires for an integer.
func wholeNumber(raw []byte, t reflect.Type) []byte {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if !t.ConvertibleTo(reflect.TypeFor[int64]()) || t.Kind() != reflect.Int && t.Kind() != reflect.Int64 || !bytes.ContainsAny(raw, ".eE") || len(raw) > 40 {
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

func wantObject(root jsonindex.Value) error {
	if root.Kind() != jsonindex.Object {
		return newProblem(fiber.StatusUnprocessableEntity, "the body must be a JSON object, not "+article(root.Kind().String()))
	}
	return nil
}

func fieldNames(v any) []string {
	t := reflect.TypeOf(v).Elem()
	names := make([]string, 0, t.NumField())
	for i := range t.NumField() {
		if name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ","); name != "" {
			names = append(names, name)
		}
	}
	return names
}

// mustBe describes the expected and the actual type.
func mustBe(wrong *json.UnmarshalTypeError) string {
	if number, ok := strings.CutPrefix(wrong.Value, "number "); ok {
		if strings.ContainsAny(number, ".eE") {
			return fmt.Sprintf("must be a whole number, not %.40s", number)
		}
		return fmt.Sprintf("is out of range: %.40s", number)
	}
	return "must be " + typeName(wrong.Type) + ", not " + article(wrong.Value)
}

func typeName(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[eventNames]():
		return "a string or a list of strings"
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

func article(kind string) string {
	if kind == "null" {
		return kind
	}
	if strings.ContainsRune("aeiou", rune(kind[0])) {
		return "an " + kind
	}
	return "a " + kind
}

func byteSize(n int) string {
	if n >= 1<<20 && n%(1<<20) == 0 {
		return fmt.Sprintf("%d MiB", n>>20)
	}
	if n >= 1<<10 && n%(1<<10) == 0 {
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("%d bytes", n)
}
