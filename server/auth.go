package server

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"fmt"
	"strings"
	"unsafe"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	"switchhook/engine"
	"switchhook/engine/catalog"
)

// caller is who makes a request: the key that came with it.
type caller struct{ *engine.Key }

// handler answers the request of a caller who may use its route.
type handler func(c *fiber.Ctx, who caller) error

// public makes a handler of one that cares for no key.
func public(h fiber.Handler) handler { return func(c *fiber.Ctx, _ caller) error { return h(c) } }

// handle lets a request through to a route that its key may use.
func (s *Server) handle(r route) fiber.Handler {
	switch r.method {
	case fiber.MethodPut, fiber.MethodPatch, fiber.MethodDelete:
		r.handler = withEachTag(r.handler)
	}
	if r.access.unauthenticated {
		return func(c *fiber.Ctx) error { return r.handler(c, caller{}) }
	}
	return func(c *fiber.Ctx) error {
		if r.access.token && c.Context().QueryArgs().Has("token") {
			return r.handler(c, caller{})
		}
		key, err := s.authenticate(c)
		if err != nil {
			return err
		}
		if s.cfg.AccessLog != nil {
			c.Locals(keyLocal{}, key.ID.Format(engine.KeyPrefix))
		}
		if err := r.access.check(key); err != nil {
			return err
		}
		if name := repeatedParameter(c.Context().QueryArgs()); name != "" && c.Locals(dialectLocal) == nil {
			return invalidField(name, "is given twice, with two values; give it once")
		}
		// Whatever the method: in a dialect a GET may change things.
		c.SetUserContext(engine.WithActor(c.UserContext(), engine.Actor{Key: key, Address: s.address(c).String()}))
		return r.handler(c, caller{key})
	}
}

// check refuses a key that may not use a route.
func (a access) check(key *engine.Key) error {
	if a.admin && !key.Admin {
		return newProblem(fiber.StatusForbidden, "this needs an admin key")
	}
	for _, scope := range a.scopes {
		if !key.Has(scope) {
			return newProblem(fiber.StatusForbidden, fmt.Sprintf("this needs a key with the scope %q; this key has %s", scope, scopeList(key.Scopes)))
		}
	}
	return nil
}

func scopeList(scopes []engine.Scope) string {
	names := make([]string, len(scopes))
	for i, scope := range scopes {
		names[i] = string(scope)
	}
	return strings.Join(names, ", ")
}

// lookupKey finds the key that a request carries.
func (s *Server) lookupKey(header *fasthttp.RequestHeader) (*engine.Key, error) {
	texts := s.extractKeys(header)
	if len(texts) == 0 {
		return nil, newProblem(fiber.StatusUnauthorized, "an API key is needed: send it as \"Authorization: Bearer KEY\" or \"X-API-Key: KEY\"")
	}
	for _, text := range texts[1:] {
		if text != texts[0] {
			return nil, newProblem(fiber.StatusUnauthorized, "the request carries two different API keys; send one")
		}
	}
	return s.engine.Authenticate(texts[0])
}

// keyParameter is the parameter of the address that carries a key, where that is allowed.
const keyParameter = "api_key"

// extractKeys gives what a request carries as its key, from every place where one may be. The
// texts live as long as the process, the header does not.
func (s *Server) extractKeys(header *fasthttp.RequestHeader) (texts []string) {
	add := func(text string) {
		if text = strings.TrimSpace(text); text != "" {
			texts = append(texts, text)
		}
	}
	for _, text := range header.PeekAll("X-API-Key") {
		add(string(text))
	}
	if s.cfg.AllowQueryKey {
		queryParameter(header, keyParameter, add)
	}
	if d := s.dialectOf(header); d != nil {
		if d.Key.Header != "" {
			for _, value := range header.PeekAll(d.Key.Header) {
				// With a space it is a scheme and its credentials, which are read below.
				if key, ok := prefixedKey(string(value), d.Key.Prefix); ok && !strings.Contains(strings.TrimSpace(key), " ") {
					add(key)
				}
			}
		}
		if d.Key.Query != "" && s.cfg.AllowQueryKey {
			queryParameter(header, d.Key.Query, add)
		}
	}
	var basic []string
	for _, value := range header.PeekAll(fiber.HeaderAuthorization) {
		scheme, credentials, _ := strings.Cut(string(value), " ")
		switch {
		case strings.EqualFold(scheme, "Bearer"):
			add(credentials)
		case strings.EqualFold(scheme, "Basic"):
			basic = append(basic, credentials)
		}
	}
	for _, credentials := range basic {
		for _, text := range s.basicKeys(credentials, len(texts) > 0) {
			add(text)
		}
	}
	return texts
}

// basicKeys gives the key in Basic credentials: the user name or the password, whichever
// looks like one. Where neither does, it is the one that is known as a key or, with other
// set, none: the request has a key from elsewhere, and has passed a proxy that has
// credentials of its own. Nothing is looked up that the answer would tell apart from a
// wrong key without counting as one.
func (s *Server) basicKeys(credentials string, other bool) (texts []string) {
	decoded, err := base64.StdEncoding.DecodeString(strings.TrimSpace(credentials))
	if err != nil {
		return nil
	}
	user, password, _ := strings.Cut(string(decoded), ":")
	for _, text := range []string{user, password} {
		if strings.HasPrefix(text, catalog.KeyTextPrefix) {
			texts = append(texts, text)
		}
	}
	if len(texts) > 0 || other {
		return texts
	}
	if _, err := s.engine.Authenticate(user); user != "" && err == nil {
		return []string{user}
	}
	return []string{cmp.Or(password, user)}
}

// queryParameter reads a parameter of the address out of the headers alone.
func queryParameter(header *fasthttp.RequestHeader, name string, add func(string)) {
	_, query, ok := bytes.Cut(header.RequestURI(), []byte{'?'})
	if !ok {
		return
	}
	query, _, _ = bytes.Cut(query, []byte{'#'})
	args := fasthttp.AcquireArgs()
	defer fasthttp.ReleaseArgs(args)
	args.ParseBytes(query)
	for _, value := range args.PeekMulti(name) {
		add(string(value))
	}
}

// maxUnauthenticatedBody is how large a body may be that comes without a known key: it is read
// before the request is answered, and nobody is to fill the memory with them.
const maxUnauthenticatedBody = 4 << 10

const continueExpectation = "100-continue"

// bodyLimit says how much of a body is read, once the headers are there.
func (s *Server) bodyLimit(header *fasthttp.RequestHeader) fasthttp.RequestConfig {
	foldSlashes(header)
	const chunked = -1
	n := header.ContentLength() // less than chunked: there is no body
	if expect := header.PeekBytes([]byte(fiber.HeaderExpect)); len(expect) > 0 && bytes.EqualFold(expect, []byte(continueExpectation)) {
		header.SetBytesK([]byte(fiber.HeaderExpect), continueExpectation) // fasthttp knows it in lower case only
	}
	if n == chunked {
		contextOf(header).SetUserValue(fieldCount{}, countFields(header))
	}
	if n != chunked && n <= maxUnauthenticatedBody {
		return fasthttp.RequestConfig{} // whoever sends it: the key is looked up once, by its route
	}
	// What is read on tells whether the key is known, so it is looked up under the same rule
	// as by a route.
	from := host(s.addressOf(contextOf(header).RemoteIP(), header))
	key, err := s.lookupKey(header)
	if err == nil && !s.isThrottled(key, from) {
		if n > s.cfg.MaxBody {
			header.Del(fiber.HeaderExpect) // the refusal comes at once, without a "100 Continue"
		}
		return fasthttp.RequestConfig{}
	}
	if n > maxUnauthenticatedBody {
		header.Del(fiber.HeaderExpect)
	}
	if n == chunked && engine.ErrorCode(err) == engine.CodeUnknownKey {
		s.authLimiter.recordFailure(from) // after a chunked body that is too large nobody knows the key any more
	}
	return fasthttp.RequestConfig{MaxRequestBodySize: min(maxUnauthenticatedBody, s.cfg.MaxBody)}
}

// foldSlashes makes each run of slashes in the path one: clients join addresses with one too
// many. It does so before the address is parsed, for what follows two slashes at the beginning
// would be taken for a host.
func foldSlashes(header *fasthttp.RequestHeader) {
	path, query := header.RequestURI(), []byte(nil)
	if i := bytes.IndexByte(path, '?'); i >= 0 {
		path, query = path[:i], path[i:]
	}
	if len(path) == 0 || path[0] != '/' || !bytes.Contains(path, []byte("//")) {
		return
	}
	folded := make([]byte, 0, len(path)+len(query))
	for i, b := range path {
		if b != '/' || i == 0 || path[i-1] != '/' {
			folded = append(folded, b)
		}
	}
	header.SetRequestURIBytes(append(folded, query...))
}

// contextOf gives the context of a request's headers, for fasthttp hands over no more than
// those before it reads the body: they are a part of it.
func contextOf(header *fasthttp.RequestHeader) *fasthttp.RequestCtx {
	const part = unsafe.Offsetof(fasthttp.RequestCtx{}.Request) + unsafe.Offsetof(fasthttp.Request{}.Header)
	return (*fasthttp.RequestCtx)(unsafe.Add(unsafe.Pointer(header), -int(part)))
}

// accountScope is the account whose things the caller may look up by id: its own, or, for an
// admin key, any (the empty string).
func (who caller) accountScope() string {
	if who.Admin {
		return ""
	}
	return who.Account
}

// listAccount is the account whose things a list shows: the caller's own, or the one that an
// admin key asks for by ?account=; "*" asks for all.
func (who caller) listAccount(c *fiber.Ctx) (string, error) {
	asked := c.Query("account")
	switch {
	case asked == "" || asked == who.Account:
		return who.Account, nil
	case !who.Admin:
		return "", invalidField("account", "must be left out: this key sees its own account only")
	case asked == "*":
		return "", nil
	case !engine.ValidAccount(asked):
		return "", invalidField("account", fmt.Sprintf("%.60q is no account name", asked))
	}
	return strings.Clone(asked), nil
}

// ownerAccount is the account in which the caller makes a thing: its own, or the one that an
// admin key names, in the body or by ?account=.
func (who caller) ownerAccount(c *fiber.Ctx, named string) (string, error) {
	if named == "" {
		named = strings.Clone(c.Query("account"))
	}
	if named == "" || named == who.Account {
		return who.Account, nil
	}
	if !who.Admin {
		return "", invalidField("account", "must be left out: this key belongs to the account "+who.Account)
	}
	return named, nil
}

// prefixedKey takes the key out of a header's value; ok is false where the prefix is not
// there.
func prefixedKey(value, prefix string) (key string, ok bool) {
	if len(value) < len(prefix) || !strings.EqualFold(value[:len(prefix)], prefix) {
		return "", false
	}
	return value[len(prefix):], true
}
