package server

import (
	"fmt"
	"mime"
	"slices"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	"switchhook/engine"
	"switchhook/engine/snowflake"
	"switchhook/server/dialect"
	"switchhook/server/wire"
)

const (
	defaultLimit = 50
	maxLimit     = 500
)

// query parses the parameters of a list. It refuses unknown names: a misspelt filter would otherwise
// return everything.
type query struct {
	c   *fiber.Ctx
	err error
}

func (s *Server) readQuery(c *fiber.Ctx, known ...string) *query {
	q := &query{c: c}
	known = append(known, listParameters...)
	if s.cfg.AllowQueryKey {
		known = append(known, keyParameter)
	}
	for k := range c.Request().URI().QueryArgs().All() {
		if name := string(k); q.err == nil && !slices.Contains(known, name) {
			slices.Sort(known)
			q.err = unknownField(name, "is not a parameter of this list; the parameters are "+strings.Join(known, ", "))
		}
	}
	return q
}

// repeatedParameter returns a query parameter that is given twice with two values, of which only one
// would count; "" if there is none. Lists, "name[]", may be repeated; two keys are refused elsewhere.
func repeatedParameter(args *fasthttp.Args) string {
	if args.Len() < 2 {
		return ""
	}
	values := make(map[string]string, args.Len())
	for key, value := range args.All() {
		name := string(key)
		if before, repeated := values[name]; repeated && before != string(value) && name != keyParameter && !strings.HasSuffix(name, "[]") {
			return name
		}
		values[name] = string(value)
	}
	return ""
}

func (q *query) text(name string) string { return strings.Clone(q.c.Query(name)) }

func (q *query) fail(name, detail string) {
	if q.err == nil {
		q.err = invalidField(name, detail)
	}
}

// unknown refuses a parameter that does not exist.
func (q *query) unknown(name, detail string) {
	if q.err == nil {
		q.err = unknownField(name, detail)
	}
}

func (q *query) limit() int {
	text := q.c.Query("limit")
	if text == "" {
		return defaultLimit
	}
	n := q.c.QueryInt("limit")
	if n < 1 || n > maxLimit {
		q.fail("limit", fmt.Sprintf("must be a number from 1 to %d", maxLimit))
	}
	return n
}

func (q *query) id(name, prefix string) engine.ID {
	text := q.c.Query(name)
	if text == "" {
		return 0
	}
	id, ok := snowflake.Parse(prefix, text)
	if !ok {
		q.fail(name, fmt.Sprintf("%.40q is not an id of this kind; they look like %q", text, engine.ID(1<<60).Format(prefix)))
	}
	return id
}

// name returns a cursor that is a name. It refuses text that no entry of the list can have.
func (q *query) name(parameter string, valid func(string) bool) string {
	text := q.text(parameter)
	if text != "" && !valid(text) {
		q.fail(parameter, "is not a cursor of this list")
	}
	return text
}

// since returns the first id that a resource created at t can have.
func (q *query) since(name string) engine.ID {
	text := q.c.Query(name)
	if text == "" {
		return 0
	}
	at, err := queryTime(text)
	if err != nil {
		q.fail(name, err.Error())
	}
	return snowflake.FirstAt(at)
}

// queryTime parses a time in the query, in which a "+" that was not written as %2B has become a space.
func queryTime(text string) (time.Time, error) {
	if at, err := wire.ParseTime(strings.Replace(text, " ", "+", 1)); err == nil {
		return at, nil
	}
	return wire.ParseTime(text)
}

// before returns the lower of two upper bounds; 0 is no bound.
func before(a, b engine.ID) engine.ID {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// page is the shape of every list, unless the client requests a bare array.
type page struct {
	Data       any     `json:"data"`
	NextCursor *string `json:"next_cursor"`
}

// pageOf makes a page of entries that were queried with one more than limit, to detect a next page:
// cursor names the entry after which the next page begins.
func pageOf[T, V any](found []T, limit int, cursor func(T) string, view func(T) V) page {
	var p page
	if len(found) > limit {
		found = found[:limit]
		next := cursor(found[limit-1])
		p.NextCursor = &next
	}
	views := make([]V, len(found))
	for i, entry := range found {
		views[i] = view(entry)
	}
	p.Data = views
	return p
}

// answerPage responds with a list that is only a page.
func answerPage(c *fiber.Ctx, p page) error { return answerList(c, p.Data, p, p.NextCursor) }

// answerList responds with a page of a list: data is its entries, envelope the page with all its members.
// The next page is also in a Link header (RFC 8288), for clients that request a bare array by
// ?format=array or the profile "array" in Accept.
func answerList(c *fiber.Ctx, data, envelope any, next *string) error {
	if next != nil {
		linkNext(c, *next)
	}
	switch format := c.Query("format"); {
	case format == "array" || format == "" && acceptsArray(c.Get(fiber.HeaderAccept)):
		c.Vary(fiber.HeaderAccept)
		return c.JSON(data)
	case format == "" || format == "page":
		c.Vary(fiber.HeaderAccept)
		return c.JSON(envelope)
	}
	return invalidField("format", `must be "array" or "page"`)
}

func linkNext(c *fiber.Ctx, cursor string) {
	var args fasthttp.Args
	c.Request().URI().QueryArgs().CopyTo(&args)
	args.Set("cursor", cursor)
	args.Del(keyParameter) // links may be stored, so they carry no key
	if d, ok := c.Locals(dialectLocal).(*dialect.Dialect); ok {
		args.Del(d.Key.Query)
	}
	c.Set(fiber.HeaderLink, "<"+string(c.Request().URI().PathOriginal())+"?"+args.String()+`>; rel="next"`)
}

// acceptsArray reports whether an Accept header has the profile "array".
func acceptsArray(accept string) bool {
	for kind := range strings.SplitSeq(accept, ",") {
		if _, parameters, err := mime.ParseMediaType(kind); err == nil && parameters["profile"] == "array" {
			return true
		}
	}
	return false
}
