package cloudevents

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"mime"
	"strings"
	"unicode/utf8"

	"switchhook/scripts/jsonindex"
)

// payload is an event's data as it came: a JSON value, or bytes.
type payload struct {
	given bool
	field string          // where it stands, for errors
	json  jsonindex.Value // missing where the data came as bytes
	bytes []byte
}

var null, _ = jsonindex.Parse([]byte("null"), jsonindex.Limits{})

// value makes the JSON that is stored, and notes in headers where it stands for other
// bytes.
func (p payload) value(content string, headers map[string]string) (jsonindex.Value, error) {
	switch {
	case !p.given:
		return null.Root(), nil
	case p.json.Exists() && isJSON(content):
		return p.json, nil
	case p.json.Exists():
		if p.json.Kind() != jsonindex.String {
			return jsonindex.Value{}, newError(p.field, "must be a string, since datacontenttype is %.60q; JSON goes with a JSON type, other bytes into data_base64", content)
		}
		return p.json, nil
	case isJSON(content):
		// A parser may ignore a byte order mark (RFC 8259, section 8.1).
		doc, err := jsonindex.Parse(bytes.TrimPrefix(p.bytes, []byte("\xef\xbb\xbf")), jsonindex.Limits{NoDuplicates: true})
		var syntax *jsonindex.SyntaxError
		if errors.As(err, &syntax) && p.field != "" { // not the body itself, whose place would help
			err = newError(p.field, "holds no JSON, though datacontenttype is %.60q: %s", content, syntax.Msg)
		}
		if err != nil {
			return jsonindex.Value{}, err
		}
		return doc.Root(), nil
	case isText(content) && utf8.Valid(p.bytes):
		return text(string(p.bytes))
	}
	headers[HeaderEncoding] = "base64"
	return text(base64.StdEncoding.EncodeToString(p.bytes))
}

func text(s string) (jsonindex.Value, error) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil {
		return jsonindex.Value{}, err
	}
	doc, err := jsonindex.Parse(bytes.TrimSuffix(out.Bytes(), []byte{'\n'}), jsonindex.Limits{})
	if err != nil {
		return jsonindex.Value{}, err
	}
	return doc.Root(), nil
}

// isJSON follows the JSON format 1.0.2, 3.1.1: "*/json" and "*/*+json".
func isJSON(content string) bool {
	media, _, _ := mime.ParseMediaType(content)
	return strings.HasSuffix(media, "/json") || strings.HasSuffix(media, "+json")
}

// isText reports whether a media type is that of text which can be read as UTF-8.
func isText(content string) bool {
	media, params, _ := mime.ParseMediaType(content)
	switch strings.ToLower(params["charset"]) {
	case "", "utf-8", "us-ascii":
	default:
		return false
	}
	return strings.HasPrefix(media, "text/") || media == "application/xml" || strings.HasSuffix(media, "+xml")
}
