package server

import (
	"bytes"
	"encoding/json"
	"strings"

	"github.com/gofiber/fiber/v2"
)

// prettyParameter asks for an indented answer.
const prettyParameter = "pretty"

// takePretty reports whether a request asks for an indented answer, and takes the
// parameter out of the query, so that no handler has to know it.
func takePretty(c *fiber.Ctx) bool {
	query := c.Context().QueryArgs()
	if query.Len() == 0 || !query.Has(prettyParameter) || !strings.HasPrefix(c.Path(), apiPath+"/") {
		return false
	}
	value := string(query.Peek(prettyParameter))
	query.Del(prettyParameter)
	return value == "" || value == "true" || value == "1"
}

// finishJSON ends a JSON answer with a newline, for terminals, and indents it if pretty.
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
	case pretty && json.Indent(&out, bytes.TrimSuffix(body, newline), "", "  ") == nil:
	case bytes.HasSuffix(body, newline):
		return
	default:
		out.Write(body)
	}
	out.WriteByte('\n')
	res.SetBodyRaw(out.Bytes())
}

var newline = []byte{'\n'}
