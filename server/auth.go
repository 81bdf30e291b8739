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

// caller is the authenticated API key of a request.
type caller struct{ *engine.Key }

// handler handles the request of a caller that may use the route.
type handler func(c *fiber.Ctx, who caller) error

// public adapts a handler that ignores the caller.
func public(h fiber.Handler) handler { return func(c *fiber.Ctx, _ caller) error { return h(c) } }

// handle authenticates the request and checks that its key may use the route.
func (s *Server) handle(r route) fiber.Handler {
	switch r.method {
	case fiber.MethodPost, fiber.MethodPut, fiber.MethodPatch, fiber.MethodDelete:
		r.handler = withEachTag(r.handler)
	}
	if r.access.unauthenticated {
		return func(c *fiber.Ctx) error { return r.handler(c, caller{}) }
	}
	return func(c *fiber.Ctx) error {
		if !r.access.deliveries && isDelivery(c) {
			return errDelivery
		}
		if r.access.token && c.Context().QueryArgs().Has("token") {
			return s.reads.read(c, host(s.address(c)).String(), s.responseSize(c, r.path), func() error { return r.handler(c, caller{}) })
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
		// for every method: in a dialect a GET may change state
		c.SetUserContext(engine.WithActor(c.UserContext(), engine.Actor{Key: key, Address: s.address(c).String()}))
		if r.reads() {
			return s.reads.read(c, readFor(c, key), s.responseSize(c, r.path), func() error { return r.handler(c, caller{key}) })
		}
		return r.handler(c, caller{key})
	}
}

// errDelivery refuses what would be an endless loop without an event, such as a delivery that asks for
// its own retry.
var errDelivery = &engine.Error{Code: engine.CodeForbidden, Message: "a delivery may only publish an event, not change or read a router"}

// check returns an error if the key may not use the route.
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

// lookupKey authenticates the request's key.
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

// keyParameter is the query parameter that may carry a key, if the configuration allows it.
const keyParameter = "api_key"

// extractKeys returns the keys that a request carries, from every supported place. The strings
// are copies, since fasthttp reuses the header's memory.
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
				// A value with a space is a scheme and its credentials, which are parsed below.
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

// basicKeys returns the key in Basic credentials: the user name or the password, whichever looks
// like a key. If neither does, it is the one that is a known key; if the request also carries a
// key elsewhere, it is none, because a proxy may have added credentials of its own. No lookup
// here can be told apart from a wrong key without counting as one.
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

// queryParameter parses a query parameter from the headers alone.
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

// maxUnauthenticatedBody limits the body of a request without a known key: it is read before the
// request is answered, and must not fill the memory.
const maxUnauthenticatedBody = 4 << 10

const continueExpectation = "100-continue"

// bodyLimit returns the limit of a request's body once its headers are read.
func (s *Server) bodyLimit(header *fasthttp.RequestHeader) fasthttp.RequestConfig {
	foldSlashes(header)
	const chunked = -1
	n := header.ContentLength() // less than chunked means no body
	if expect := header.PeekBytes([]byte(fiber.HeaderExpect)); len(expect) > 0 && bytes.EqualFold(expect, []byte(continueExpectation)) {
		header.SetBytesK([]byte(fiber.HeaderExpect), continueExpectation) // fasthttp knows it in lower case only
	}
	if n == chunked {
		contextOf(header).SetUserValue(fieldCount{}, countFields(header))
	}
	if n != chunked && n <= maxUnauthenticatedBody {
		return fasthttp.RequestConfig{} // the same limit for every caller: the route looks the key up, once
	}
	// How much is read reveals whether the key is known, so the lookup is throttled as it is for
	// routes.
	from := host(s.addressOf(contextOf(header).RemoteIP(), header))
	key, err := s.lookupKey(header)
	if err == nil && !s.isThrottled(key, from) {
		if n > s.cfg.MaxBody {
			header.Del(fiber.HeaderExpect) // refuse at once, without "100 Continue"
			return fasthttp.RequestConfig{}
		}
		size := n
		if n == chunked {
			size = s.cfg.MaxBody
		}
		if s.acquireBody(contextOf(header), key.Account, size) != nil {
			header.Del(fiber.HeaderExpect)
			return fasthttp.RequestConfig{MaxRequestBodySize: 1} // the least
		}
		return fasthttp.RequestConfig{}
	}
	if n > maxUnauthenticatedBody {
		header.Del(fiber.HeaderExpect)
	}
	if n == chunked && engine.ErrorCode(err) == engine.CodeUnknownKey {
		s.authLimiter.recordFailure(from) // after a chunked body over the limit the key is no longer available
	}
	return fasthttp.RequestConfig{MaxRequestBodySize: min(maxUnauthenticatedBody, s.cfg.MaxBody)}
}

// foldSlashes replaces each run of slashes in the path by one, for clients that join URLs with
// one slash too many. It runs before the URL is parsed, which would take what follows two
// leading slashes for a host.
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

// contextOf returns the request context that contains header. fasthttp passes only the headers
// before it reads the body; they are a field of the context.
func contextOf(header *fasthttp.RequestHeader) *fasthttp.RequestCtx {
	const part = unsafe.Offsetof(fasthttp.RequestCtx{}.Request) + unsafe.Offsetof(fasthttp.Request{}.Header)
	return (*fasthttp.RequestCtx)(unsafe.Add(unsafe.Pointer(header), -int(part)))
}

// accountScope returns the account in which the caller may look up resources by id: its own, or
// the empty string (any account) for an admin key.
func (who caller) accountScope() string {
	if who.Admin {
		return ""
	}
	return who.Account
}

// listAccount returns the account that a list covers: the caller's own, or the one that an admin
// key selects by ?account=, where "*" is all accounts.
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
		return "", invalidField("account", fmt.Sprintf("%.60q is not an account name", asked))
	}
	return strings.Clone(asked), nil
}

// ownerAccount returns the account of a new resource: the caller's own, or the one that an admin
// key names in the body or by ?account=.
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

// prefixedKey removes the prefix from a header's value; ok is false if the prefix is missing.
func prefixedKey(value, prefix string) (key string, ok bool) {
	if len(value) < len(prefix) || !strings.EqualFold(value[:len(prefix)], prefix) {
		return "", false
	}
	return value[len(prefix):], true
}
