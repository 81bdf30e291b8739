package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/gofiber/fiber/v2"

	"switchhook/engine"
	"switchhook/scripts/jsondoc"
	"switchhook/scripts/near"
)

// readJSON reads a request's body. The document has memory of its own and outlives the
// request.
func readJSON(c *fiber.Ctx) (*jsondoc.Doc, error) {
	if ct := c.Get(fiber.HeaderContentType); ct != "" {
		media, _, err := mime.ParseMediaType(ct)
		if err != nil || media != "application/json" && !strings.HasSuffix(media, "+json") {
			return nil, problemOf(fiber.StatusUnsupportedMediaType, fmt.Sprintf("the body must be JSON: send it with \"Content-Type: application/json\", not %q", ct))
		}
	}
	body, err := plainBody(c)
	if err != nil {
		return nil, err
	}
	return jsondoc.Parse(body, jsondoc.Limits{NoDuplicates: true})
}

// plainBody is a request's body in memory of its own: Fiber uses the request's again.
func plainBody(c *fiber.Ctx) ([]byte, error) {
	if err := checkEncoding(c); err != nil {
		return nil, err
	}
	return slices.Clone(c.BodyRaw()), nil
}

func checkEncoding(c *fiber.Ctx) error {
	if enc := c.Get(fiber.HeaderContentEncoding); enc != "" && enc != "identity" {
		return problemOf(fiber.StatusUnsupportedMediaType, fmt.Sprintf("the body must come as it is, not in Content-Encoding %q", enc))
	}
	return nil
}

// readObject reads a request's body into a struct. Members that the struct does not have
// are left alone, for clients send more than they must, unless they look like a slip of
// the pen. present holds the names that the body has.
func readObject(c *fiber.Ctx, into any) (present map[string]jsondoc.Value, err error) {
	doc, err := readJSON(c)
	if err != nil {
		return nil, err
	}
	return decodeObject(doc.Root(), into)
}

// readExactObject is readObject where a member that is left alone would do harm: all of
// them must be known.
func readExactObject(c *fiber.Ctx, into any) error {
	present, err := readObject(c, into)
	known := fieldNames(into)
	for name := range present {
		if err == nil && !slices.Contains(known, name) {
			err = fieldProblem(name, "is not known here; there are "+strings.Join(known, ", "))
		}
	}
	return err
}

func decodeObject(root jsondoc.Value, into any) (present map[string]jsondoc.Value, err error) {
	if err := wantObject(root); err != nil {
		return nil, err
	}
	known := fieldNames(into)
	present = map[string]jsondoc.Value{}
	for name, value := range root.Members() {
		present[name] = value
		if slices.Contains(known, name) {
			continue
		}
		if meant := near.Name(name, known); meant != "" {
			return nil, fieldProblem(name, fmt.Sprintf("is not known here; did you mean %q?", meant))
		}
	}
	fields := reflect.ValueOf(into).Elem()
	if err := json.Unmarshal(root.Raw(), into); err != nil {
		var wrong *json.UnmarshalTypeError
		if errors.As(err, &wrong) {
			return nil, fieldProblem(wrongMember(wrong, present, fields, known), mustBe(wrong))
		}
		// a type of ours said no, and can't know its name
		for i, name := range known {
			if value := present[name]; value.Exists() {
				if err := readValue(name, value.Raw(), fields.Field(i).Addr().Interface()); err != nil {
					return nil, err
				}
			}
		}
		return nil, problemOf(fiber.StatusUnprocessableEntity, err.Error())
	}
	return present, nil
}

// readMembers reads the object that is the value of field, into a struct; unknown members
// as in readObject. present holds the names that it has.
func readMembers(field string, raw []byte, into any) (present map[string]jsondoc.Value, err error) {
	doc, err := jsondoc.Parse(raw, jsondoc.Limits{})
	if err != nil {
		return nil, err
	}
	root := doc.Root()
	if root.Kind() != jsondoc.Object {
		return nil, fieldProblem(field, "must be an object, not "+article(root.Kind().String()))
	}
	known, fields := fieldNames(into), reflect.ValueOf(into).Elem()
	present = map[string]jsondoc.Value{}
	for name, value := range root.Members() {
		i := slices.Index(known, name)
		if i < 0 {
			if meant := near.Name(name, known); meant != "" {
				return nil, fieldProblem(field+"."+name, fmt.Sprintf("is not known here; did you mean %q?", meant))
			}
			continue
		}
		present[name] = value
		if err := readValue(field+"."+name, value.Raw(), fields.Field(i).Addr().Interface()); err != nil {
			return nil, err
		}
	}
	return present, nil
}

// readValue reads the value of field.
func readValue(field string, raw []byte, into any) error {
	err := json.Unmarshal(raw, into)
	if wrong := (*json.UnmarshalTypeError)(nil); errors.As(err, &wrong) {
		return fieldProblem(field, mustBe(wrong))
	}
	if err != nil {
		return fieldProblem(field, err.Error())
	}
	return nil
}

func wantObject(root jsondoc.Value) error {
	if root.Kind() != jsondoc.Object {
		return problemOf(fiber.StatusUnprocessableEntity, "the body must be a JSON object, not "+article(root.Kind().String()))
	}
	return nil
}

// wrongMember adds the name of the member that is to blame to the field of an object of
// strings, which encoding/json leaves out.
func wrongMember(wrong *json.UnmarshalTypeError, present map[string]jsondoc.Value, fields reflect.Value, known []string) string {
	if i := slices.Index(known, wrong.Field); i >= 0 && fields.Field(i).Kind() == reflect.String {
		return wrong.Field // itself
	}
	for name, member := range present[wrong.Field].Members() {
		if kind := member.Kind(); kind != jsondoc.String && kind != jsondoc.Null && wrong.Type.Kind() == reflect.String {
			return wrong.Field + "." + name
		}
	}
	return wrong.Field
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

// mustBe words what was wanted and what came.
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
	case reflect.TypeFor[duration]():
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

// version reads If-Match: the version that the caller expects, or engine.AnyVersion.
func ifMatch(c *fiber.Ctx) (int64, error) {
	tag := strings.TrimPrefix(strings.TrimSpace(c.Get(fiber.HeaderIfMatch)), "W/")
	if tag == "" || tag == "*" {
		return engine.AnyVersion, nil
	}
	number, closed := strings.CutSuffix(strings.TrimPrefix(tag, `"`), `"`)
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || !closed || n < 1 || strconv.FormatInt(n, 10) != number {
		return 0, problemOf(fiber.StatusPreconditionFailed, fmt.Sprintf("If-Match: %.60s is no version; send the ETag that came with the resource", tag))
	}
	return n, nil
}

func setETag(c *fiber.Ctx, version int64) { c.Set(fiber.HeaderETag, fmt.Sprintf(`"%d"`, version)) }

func byteSize(n int) string {
	if n >= 1<<20 && n%(1<<20) == 0 {
		return fmt.Sprintf("%d MiB", n>>20)
	}
	if n >= 1<<10 && n%(1<<10) == 0 {
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("%d bytes", n)
}
