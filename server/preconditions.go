package server

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/gofiber/fiber/v2"

	"switchhook/engine"
	"switchhook/engine/catalog"
	"switchhook/server/api"
)

// maxEntityTags limits the entity tags of a list: the request is tried with each.
const maxEntityTags = 32

// headerList returns the value of a list header, with its lines joined.
func headerList(c *fiber.Ctx, name string) string {
	lines := c.Request().Header.PeekAll(name)
	texts := make([]string, len(lines))
	for i, line := range lines {
		texts[i] = string(line)
	}
	return strings.TrimSpace(strings.Join(texts, ", "))
}

// entityTags splits a list of entity tags (RFC 9110, section 8.8.3). Quoted commas do not separate
// elements, and empty elements are ignored.
func entityTags(list string) (tags []string) {
	quoted := false
	for tag := range strings.FieldsFuncSeq(list, func(r rune) bool {
		if r == '"' {
			quoted = !quoted
		}
		return r == ',' && !quoted
	}) {
		if tag = strings.TrimSpace(tag); tag != "" {
			tags = append(tags, tag)
		}
	}
	return tags
}

// withEachTag runs a request whose If-Match lists several versions once per version, until one matches
// the current version. A handler changes nothing for a version that does not match.
func withEachTag(h handler) handler {
	return func(c *fiber.Ctx, who caller) error {
		tags := entityTags(headerList(c, fiber.HeaderIfMatch))
		if len(tags) < 2 {
			return h(c, who)
		}
		if len(tags) > maxEntityTags {
			return newProblem(fiber.StatusBadRequest, fmt.Sprintf("If-Match lists %d entity tags; %d are allowed", len(tags), maxEntityTags))
		}
		var err error
		for _, tag := range tags {
			c.Request().Header.Del(fiber.HeaderIfMatch) // removes all lines
			c.Request().Header.Set(fiber.HeaderIfMatch, tag)
			var p *api.Error
			if err = h(c, who); engine.ErrorCode(err) != engine.CodeStale && !(errors.As(err, &p) && p.Status == fiber.StatusPreconditionFailed) {
				return err
			}
		}
		return err
	}
}

// ifMatch parses If-Match: the expected version, or catalog.AnyVersion. A weak tag counts as its strong
// one, since proxies that compress make tags weak.
func ifMatch(c *fiber.Ctx) (int64, error) {
	if headerList(c, fiber.HeaderIfNoneMatch) != "" {
		return 0, newProblem(fiber.StatusPreconditionFailed, "If-None-Match is not supported for this change; send If-Match, or neither")
	}
	tag := headerList(c, fiber.HeaderIfMatch)
	if tag == "" || tag == "*" {
		return catalog.AnyVersion, nil
	}
	number, closed := strings.CutSuffix(strings.TrimPrefix(strings.TrimPrefix(tag, "W/"), `"`), `"`)
	number, _, _ = strings.Cut(number, ".") // the rest identifies an answer to GET; see conditionalGet
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || !closed || n < 1 || strconv.FormatInt(n, 10) != number {
		return 0, newProblem(fiber.StatusPreconditionFailed, fmt.Sprintf("If-Match: %.60s is not a version; send the ETag that came with the resource", tag))
	}
	return n, nil
}

// upsertPrecondition parses If-Match and If-None-Match of a PUT that creates missing resources.
func upsertPrecondition(c *fiber.Ctx, exists bool) (version int64, err error) {
	switch none := headerList(c, fiber.HeaderIfNoneMatch); {
	case none == "*" && exists:
		return 0, newProblem(fiber.StatusPreconditionFailed, "If-None-Match: the resource exists already")
	case none == "*":
		return catalog.AnyVersion, nil
	case headerList(c, fiber.HeaderIfMatch) == "*" && !exists:
		return 0, newProblem(fiber.StatusPreconditionFailed, "If-Match: the resource does not exist")
	}
	return ifMatch(c)
}

func setETag(c *fiber.Ctx, version int64) { c.Set(fiber.HeaderETag, fmt.Sprintf(`"%d"`, version)) }

// setBodyETag marks an answer whose resource has no version that a change could name: its ETag is a
// hash of the answer alone.
func setBodyETag(c *fiber.Ctx) { c.Set(fiber.HeaderETag, `""`) }

// conditionalGet completes the ETag of an answer to GET, and answers 304 without a body if
// If-None-Match has it. The version alone does not identify the answer, since it also has members
// that change without a change of the resource: health, counts. So the tag gets a hash of the body,
// which If-Match ignores: a count must not make a change stale.
func conditionalGet(c *fiber.Ctx) {
	res := c.Response()
	version := res.Header.Peek(fiber.HeaderETag)
	if c.Method() != fiber.MethodGet && c.Method() != fiber.MethodHead || res.StatusCode() != fiber.StatusOK || len(version) < 2 {
		return
	}
	hash := sha256.Sum256(res.Body())
	tag := fmt.Sprintf(`%s.%x"`, version[:len(version)-1], hash[:8])
	if string(version) == `""` { // see setBodyETag
		tag = fmt.Sprintf(`"%x"`, hash[:8])
	}
	c.Set(fiber.HeaderETag, tag)
	for _, known := range entityTags(headerList(c, fiber.HeaderIfNoneMatch)) {
		if known == "*" || strings.TrimPrefix(known, "W/") == tag { // the weak comparison of RFC 9110, section 13.1.2
			res.ResetBody()
			res.Header.Del(fiber.HeaderContentType)
			c.Status(fiber.StatusNotModified)
			return
		}
	}
}
