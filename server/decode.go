package server

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"mime"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/gofiber/fiber/v2"

	"switchhook/scripts/jsonindex"
	"switchhook/server/wire"
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

// plainBody returns a copy of a request's body, since Fiber reuses the memory. It waits until there is
// memory for the document in it.
func plainBody(c *fiber.Ctx) ([]byte, error) {
	if err := checkEncoding(c); err != nil {
		return nil, err
	}
	body := withoutBOM(c.BodyRaw())
	if err := acquireDocument(c, body); err != nil {
		return nil, err
	}
	return slices.Clone(body), nil
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

// decodeObject decodes an object as readObject does.
func decodeObject(root jsonindex.Value, into any, shown ...string) (present map[string]jsonindex.Value, err error) {
	if err := wantObject(root); err != nil {
		return nil, err
	}
	if err := wire.Decode(root, into, shown...).Err(); err != nil {
		return nil, err
	}
	return maps.Collect(root.Members()), nil
}

func wantObject(root jsonindex.Value) error {
	if root.Kind() != jsonindex.Object {
		return newProblem(fiber.StatusUnprocessableEntity, "the body must be a JSON object, not "+wire.Article(root.Kind().String()))
	}
	return nil
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
