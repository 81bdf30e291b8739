package server

import (
	"bytes"
	"fmt"
	"mime"
	"slices"
	"strconv"
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

// idCursor returns the cursor of a list of ids; empty for 0.
func idCursor(id engine.ID, prefix string) string {
	if id == 0 {
		return ""
	}
	return id.Format(prefix)
}

// number returns a cursor that is a number.
func (q *query) number(parameter string) (n int) {
	if text := q.text(parameter); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil || n < 1 {
			q.fail(parameter, "is not a cursor of this list")
		}
	}
	return n
}

// numberCursor returns the cursor of a list of numbers; empty for 0.
func numberCursor(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
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

// page is a page of a list. Its entries are encoded one by one, so that they are in memory once.
type page struct {
	body    bytes.Buffer // pageHead, and the entries
	entries int
	next    string // cursor of the next page; empty: none
}

// pageHead begins a page. Every list is an object with data and next_cursor, unless the client
// requests a bare array.
const pageHead = `{"data":[`

// pageBytes ends a page: it has one entry at least, and others as long as all are shorter.
const pageBytes = engine.PageBytes

// add encodes an entry; full reports that it begins the next page.
func (p *page) add(entry any) (full bool, err error) {
	before := p.body.Len()
	if before == 0 {
		p.body.WriteString(pageHead)
	} else {
		p.body.WriteByte(',')
	}
	if err := encodeTo(&p.body, entry); err != nil {
		return false, err
	}
	p.body.Truncate(p.body.Len() - len(newline))
	if p.entries > 0 && p.body.Len() > pageBytes {
		p.body.Truncate(before)
		return true, nil
	}
	p.entries++
	return false, nil
}

// pageOf makes a page of the first entries of a list: limit at most, and no more than pageBytes.
// cursor names the entry after which the next page begins; next is the cursor after all of found,
// empty if nothing follows. The entries are removed from found, to free their memory.
func pageOf[T, V any](found []T, limit int, next string, cursor func(T) string, view func(T) V) (*page, error) {
	p := &page{next: next}
	last := ""
	for i, entry := range found {
		full := i == limit
		if !full {
			var err error
			if full, err = p.add(view(entry)); err != nil {
				return nil, err
			}
		}
		if full {
			p.next = last
			break
		}
		last, found[i] = cursor(entry), *new(T)
	}
	return p, nil
}

// answerPage responds with a page of a list; more are further members of its object, as pairs of
// name and value. The next page is also in a Link header (RFC 8288), for clients that request a bare
// array by ?format=array or the profile "array" in Accept.
func answerPage(c *fiber.Ctx, p *page, more ...any) error {
	if p.body.Len() == 0 {
		p.body.WriteString(pageHead)
	}
	p.body.WriteByte(']')
	if p.next != "" {
		linkNext(c, p.next)
	}
	body := p.body.Bytes()
	switch format := c.Query("format"); {
	case format == "array" || format == "" && acceptsArray(c.Get(fiber.HeaderAccept)):
		body = append(body[len(pageHead)-1:], '\n')
	case format == "" || format == "page":
		more = append([]any{"next_cursor", nullIfZero(p.next)}, more...)
		for i := 0; i < len(more); i += 2 {
			member, err := encodeJSON(more[i+1])
			if err != nil {
				return err
			}
			body = append(append(append(append(body, `,"`...), more[i].(string)...), `":`...), member...)
		}
		body = append(body, "}\n"...)
	default:
		return invalidField("format", `must be "array" or "page"`)
	}
	c.Vary(fiber.HeaderAccept)
	c.Response().SetBodyRaw(body)
	c.Response().Header.SetContentType(fiber.MIMEApplicationJSON)
	return nil
}

// pageAnswer responds with the page that pageOf made.
func pageAnswer(c *fiber.Ctx) func(*page, error) error {
	return func(p *page, err error) error {
		if err != nil {
			return err
		}
		return answerPage(c, p)
	}
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
