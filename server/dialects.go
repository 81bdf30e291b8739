package server

import (
	"math"
	"slices"
	"strings"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	"switchhook/engine/catalog"
	"switchhook/server/dialect"
)

// OpenDialects serves the named built-in dialects and those in the files of a folder, which is empty
// for none. Until Shutdown it reloads files that change. An invalid file is an error here; later it
// is logged.
func (s *Server) OpenDialects(folder string, builtIn []string) error {
	loader, err := dialect.NewLoader(folder, builtIn, s.dialectWords(), s.log)
	if err != nil {
		return err
	}
	set, err := loader.Load()
	if err != nil {
		return err
	}
	s.serveDialects(set)
	s.background.Go(func() { loader.Watch(s.streams, s.reloadDialects, s.serveDialects) })
	return nil
}

// ReloadDialects requests that the folder of dialects is read again, as a change of its files does,
// and does not wait. It does nothing without a folder.
func (s *Server) ReloadDialects() {
	select {
	case s.reloadDialects <- struct{}{}:
	default: // a reload is pending
	}
}

func (s *Server) serveDialects(set *dialect.Set) {
	s.engine.SetDialectBodies(set.Bodies())
	s.dialectSet.Store(set)
	orphans := map[string]int{}
	for _, sub := range s.engine.Subscriptions(catalog.SubscriptionQuery{Limit: math.MaxInt}) {
		if sub.Dialect != "" && !slices.Contains(set.Names(), sub.Dialect) {
			orphans[sub.Dialect]++
		}
	}
	for name, n := range orphans {
		s.log.Warn("subscriptions were made in a dialect that is not served: their deliveries have the router's own form", "dialect", name, "subscriptions", n)
	}
	s.log.Info("dialects", "served", set.Names())
}

// dialectWords returns the names that dialect files may use and the reserved paths.
func (s *Server) dialectWords() dialect.Words {
	words := dialect.Words{Subscription: viewNames, Input: ownNames, QueryKeys: s.cfg.AllowQueryKey, CheckFixed: s.checkFixed}
	for _, r := range s.routes() {
		for _, path := range r.paths() {
			if rest, ok := strings.CutPrefix(path, apiPath+"/"); ok {
				noun, _, _ := strings.Cut(rest, "/")
				path = apiPath + "/" + noun
			}
			if !slices.Contains(words.Reserved, path) {
				words.Reserved = append(words.Reserved, path)
			}
		}
	}
	return words
}

// dialectOf returns the dialect that has a request's path; nil if none has.
func (s *Server) dialectOf(header *fasthttp.RequestHeader) *dialect.Dialect {
	set := s.dialectSet.Load()
	if set == nil {
		return nil
	}
	path, _, _ := strings.Cut(string(header.RequestURI()), "?")
	d, _, _ := set.At(path)
	return d
}

// dialectLocal is the key of the request's dialect in its Locals, for the form of errors.
const dialectLocal = "dialect"

// dialectMiddleware handles requests that match no built-in route.
func (s *Server) dialectMiddleware(c *fiber.Ctx) error {
	set := s.dialectSet.Load()
	if set == nil {
		return c.Next()
	}
	d, operations, id := set.At(c.Path())
	if d == nil {
		return c.Next()
	}
	c.Locals(dialectLocal, d)
	var allowed []string
	for _, op := range operations {
		if slices.Contains(op.Methods, c.Method()) || slices.Contains(op.Methods, fiber.MethodGet) && c.Method() == fiber.MethodHead {
			access, path := subscribe, ""
			if op.Action == dialect.Get || op.Action == dialect.List || op.Action == dialect.Catalogue {
				access, path = read, dialectPath
			}
			c.Locals(routeLocal{}, "dialect/"+d.Name)
			h := s.dialectHandler(d, op, strings.Clone(id))
			if op.Action == dialect.Subscribe {
				h = s.once(h)
			}
			return s.handle(route{path: path, access: access, handler: h})(c)
		}
		if allowed = append(allowed, op.Methods...); slices.Contains(op.Methods, fiber.MethodGet) {
			allowed = append(allowed, fiber.MethodHead)
		}
	}
	c.Set(fiber.HeaderAllow, strings.Join(allowed, ", "))
	return fiber.ErrMethodNotAllowed
}

// dialectHandler returns the handler of a dialect's operation. It calls the engine as the API's own
// handlers do, and covers only the account's subscriptions that were created in the dialect.
func (s *Server) dialectHandler(d *dialect.Dialect, op *dialect.Operation, id string) handler {
	return func(c *fiber.Ctx, who caller) error {
		switch op.Action {
		case dialect.Subscribe:
			return s.dialectSubscribe(c, who, d, op)
		case dialect.Update:
			return s.dialectUpdate(c, who, d, op, id)
		case dialect.Unsubscribe:
			return s.dialectUnsubscribe(c, who, d, op, id)
		case dialect.Get:
			sub, err := s.dialectSubscription(who, d, id)
			if err != nil {
				return err
			}
			return s.dialectAnswer(c, op, s.viewSubscription(who, sub))
		}
		return s.dialectList(c, who, d, op)
	}
}
