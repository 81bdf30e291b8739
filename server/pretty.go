package server

import (
	"bytes"
	"encoding/json"
	"strings"

	"github.com/gofiber/fiber/v2"
)

// prettyParameter requests an indented response.
const prettyParameter = "pretty"

// takePretty reports whether a request asks for an indented response, and removes the parameter from the
// query, so that handlers need not know it.
func takePretty(c *fiber.Ctx) bool {
	query := c.Context().QueryArgs()
	if query.Len() == 0 || !query.Has(prettyParameter) || !strings.HasPrefix(c.Path(), apiPath+"/") {
		return false
	}
	value := string(query.Peek(prettyParameter))
	query.Del(prettyParameter)
	return value == "" || value == "true" || value == "1"
}

// finishJSON appends a newline to a JSON response, for terminals, and indents it if pretty.
func finishJSON(c *fiber.Ctx, pretty bool) {
	res := c.Response()
	kind := res.Header.ContentType()
	if res.IsBodyStream() || !bytes.HasPrefix(kind, []byte(fiber.MIMEApplicationJSON)) && !bytes.HasPrefix(kind, []byte(problemType)) {
		return
	}
	body := res.Body()
	if len(body) == 0 {
		return
	}
	var out bytes.Buffer
	switch {
	case pretty && indentedSize(body) <= maxPretty && json.Indent(&out, bytes.TrimSuffix(body, newline), "", "  ") == nil:
	case bytes.HasSuffix(body, newline):
		return
	default:
		out.Write(body)
	}
	out.WriteByte('\n')
	res.SetBodyRaw(out.Bytes())
}

// maxPretty is the maximum size of an indented response: deep nesting can make it a thousand times
// larger than the response, which is then not indented.
const maxPretty = 4 * pageBytes

// indentedSize returns about the size of indented JSON; it ends when that exceeds maxPretty.
func indentedSize(body []byte) (size int) {
	depth, quoted := 0, false
	for i := 0; i < len(body) && size <= maxPretty; i++ {
		size++
		switch b := body[i]; {
		case quoted && b == '\\':
			i++
			size++
		case b == '"':
			quoted = !quoted
		case quoted:
		case b == '{' || b == '[':
			depth++
			size += 1 + 2*depth
		case b == '}' || b == ']':
			depth--
			size += 1 + 2*depth
		case b == ',':
			size += 1 + 2*depth
		}
	}
	return size
}

var newline = []byte{'\n'}
