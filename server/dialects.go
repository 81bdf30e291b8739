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

// OpenDialects serves the built-in dialects that are named and those in the files of a
// folder, which may be empty for none. From then until Shutdown, files that change are
// taken over. Any mistake in a file is an error here; later it is logged.
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

// ReloadDialects reads the folder of dialects again, as a change of its files does. It
// does not wait for that, and does nothing without a folder.
func (s *Server) ReloadDialects() {
	select {
	case s.reloadDialects <- struct{}{}:
	default: // one is on its way
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

// dialectWords is what files of dialects may speak of, and where nothing may be mounted.
func (s *Server) dialectWords() dialect.Words {
	words := dialect.Words{Subscription: viewNames, Input: ownNames, QueryKeys: s.cfg.AllowQueryKey, CheckFixed: s.checkFixed}
	for _, r := range s.routes() {
		for _, path := range append(r.aliases, r.path) {
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

// dialectOf is the dialect of the path that a request goes to; nil where it is none's.
func (s *Server) dialectOf(header *fasthttp.RequestHeader) *dialect.Dialect {
	set := s.dialectSet.Load()
	if set == nil {
		return nil
	}
	path, _, _ := strings.Cut(string(header.RequestURI()), "?")
	d, _, _ := set.At(path)
	return d
}

// dialectLocal is where a request that is in a dialect has it, for the form of its errors.
const dialectLocal = "dialect"

// dialectMiddleware answers what no route of our own does.
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
			access := subscribe
			if op.Action == dialect.Get || op.Action == dialect.List || op.Action == dialect.Catalogue {
				access = read
			}
			c.Locals(routeLocal{}, "dialect/"+d.Name)
			h := s.dialectHandler(d, op, strings.Clone(id))
			if op.Action == dialect.Subscribe {
				h = s.once(h)
			}
			return s.handle(route{access: access, handler: h})(c)
		}
		if allowed = append(allowed, op.Methods...); slices.Contains(op.Methods, fiber.MethodGet) {
			allowed = append(allowed, fiber.MethodHead)
		}
	}
	c.Set(fiber.HeaderAllow, strings.Join(allowed, ", "))
	return fiber.ErrMethodNotAllowed
}

// dialectHandler is the handler of a dialect's operation. It calls the engine as the API's own
// handlers do, and sees the subscriptions of the caller's account that were made in it.
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
