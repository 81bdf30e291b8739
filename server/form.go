package server

import (
	"bytes"
	"errors"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/gofiber/fiber/v2"

	"switchhook/scripts/jsonindex"
	"switchhook/server/api"
)

// readJSONOrForm parses a body that may be JSON or application/x-www-form-urlencoded; form reports which.
func readJSONOrForm(c *fiber.Ctx) (doc *jsonindex.Doc, form bool, err error) {
	media, err := mediaType(c)
	if err != nil {
		return nil, false, err
	}
	if media != fiber.MIMEApplicationForm {
		doc, err = readJSON(c)
		if p := (*api.Error)(nil); media != "" && errors.As(err, &p) && p.Status == fiber.StatusUnsupportedMediaType && checkEncoding(c) == nil {
			p.Detail += "; a form is taken as \"application/x-www-form-urlencoded\""
		}
		return doc, false, err
	}
	body, err := plainBody(c)
	if err != nil {
		return nil, false, err
	}
	// curl -d labels every body as a form; no form begins with these characters.
	if bytes.HasPrefix(bytes.TrimLeft(body, " \t\r\n"), []byte{'{'}) {
		doc, err = jsonindex.Parse(body, jsonindex.Limits{NoDuplicates: true})
		return doc, false, err
	}
	doc, err = readForm(string(body))
	return doc, true, err
}

// readBodyOrQuery parses the query parameters as a form if there is no body, as with many clients'
// DELETE.
func readBodyOrQuery(c *fiber.Ctx) (*jsonindex.Doc, error) {
	if len(c.BodyRaw()) == 0 {
		return readForm(string(c.Context().QueryArgs().QueryString()))
	}
	doc, _, err := readJSONOrForm(c)
	return doc, err
}

func readForm(text string) (*jsonindex.Doc, error) {
	object, err := formObject(text)
	if err != nil {
		return nil, err
	}
	encoded, err := encodeJSON(object)
	if err != nil {
		return nil, err
	}
	return jsonindex.Parse(encoded, jsonindex.Limits{})
}

// indexed matches a name such as "events[0]" or "hook[events][0]".
var indexed = regexp.MustCompile(`^(.*?([^\[\]]+)\]?)\[([0-9]{1,3})\]$`)

// joinIndexed joins "events[0]=…" and "events[1]=…" to one list, as "events[]".
func joinIndexed(values url.Values) error {
	elements := map[string]map[int]string{}
	for key, texts := range values {
		parts := indexed.FindStringSubmatch(key)
		if parts == nil || aliases[fold(parts[2])].member != "events" && parts[2] != "signatures" {
			continue
		}
		list := parts[1] + "[]"
		index, _ := strconv.Atoi(parts[3])
		if _, twice := elements[list][index]; twice || len(texts) > 1 || values.Has(list) {
			return invalidField(truncate(parts[1]), "is given in two ways")
		}
		if elements[list] == nil {
			elements[list] = map[int]string{}
		}
		elements[list][index] = texts[0]
		delete(values, key)
	}
	for list, texts := range elements {
		for _, index := range slices.Sorted(maps.Keys(texts)) {
			values.Add(list, texts[index])
		}
	}
	return nil
}

// formObject converts a form to an object of texts: "hook[target]=…" is a nested member, "events[]=…" or
// "events[0]=…" an element of a list. Several events may share one name; every other name may occur
// once.
func formObject(body string) (map[string]any, error) {
	values, err := url.ParseQuery(body)
	if err != nil {
		return nil, newProblem(fiber.StatusBadRequest, "the body is not a valid form: "+truncate(err.Error()))
	}
	if err := joinIndexed(values); err != nil {
		return nil, err
	}
	object := map[string]any{}
	for key, texts := range values {
		name, inner, nested := strings.Cut(key, "[")
		into := object
		if nested && inner != "]" {
			member, tail, _ := strings.Cut(inner, "]")
			if name == "" || member == "" || tail != "" && tail != "[]" {
				return nil, invalidField(truncate(key), `can't be read: write "name", "name[]" or "name[member]"`)
			}
			child, ok := object[name].(map[string]any)
			if !ok && object[name] != nil {
				return nil, invalidField(truncate(name), "is given as a text and as an object")
			}
			if !ok {
				child = map[string]any{}
				object[name] = child
			}
			name, into, nested = member, child, tail == "[]"
		}
		for _, text := range append(texts, key) {
			if !utf8.ValidString(text) {
				return nil, invalidField(truncate(strings.ToValidUTF8(key, "?")), "is not valid UTF-8")
			}
		}
		if into[name] != nil {
			return nil, invalidField(truncate(name), "is given in two ways")
		}
		switch {
		case nested || len(texts) > 1 && aliases[fold(name)].member == "events":
			into[name] = texts
		case len(texts) > 1:
			return nil, newProblem(fiber.StatusBadRequest, "the form names "+truncate(name)+" twice")
		default:
			into[name] = texts[0]
		}
	}
	return object, nil
}
