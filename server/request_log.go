package server

import (
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/prometheus/client_golang/prometheus"
)

// otherRoute is the label of requests that no route handled: their paths are arbitrary client input.
const otherRoute = "other"

// Keys of a request's Locals that are read once it is answered.
type (
	routeLocal struct{} // the path of its operation, as openapi.json writes it, or its dialect
	keyLocal   struct{} // the id of its key
)

// newRequestCounter returns a counter of requests by operation and status, so the number of series is
// bounded.
func newRequestCounter(r prometheus.Registerer) *prometheus.CounterVec {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "switchhook", Name: "api_requests_total", Help: "Requests of the API by method, route and status; other where there is no such route.",
	}, []string{"method", "route", "code"})
	// Series exist from the start, so that the first increment is visible.
	for _, code := range []int{fiber.StatusAccepted, fiber.StatusTooManyRequests, fiber.StatusServiceUnavailable} {
		c.WithLabelValues(fiber.MethodPost, publishRoute, strconv.Itoa(code))
	}
	r.MustRegister(c)
	return c
}

const publishRoute = apiPath + "/events"

// named records the operation of a request.
func named(path string, h fiber.Handler) fiber.Handler {
	var name any = template(path) // boxed once
	return func(c *fiber.Ctx) error {
		c.Locals(routeLocal{}, name)
		return h(c)
	}
}

// template converts a path to the form of openapi.json: "/api/v1/events/{id}".
func template(path string) string {
	parts := strings.Split(path, "/")
	for i, part := range parts {
		if name, ok := strings.CutPrefix(part, ":"); ok {
			parts[i] = "{" + name + "}"
		}
	}
	return strings.Join(parts, "/")
}

// loggedPath returns a copy of a path, without a key that was sent in place of an id.
func loggedPath(path string) string {
	parts := strings.Split(strings.Clone(path), "/")
	for i, part := range parts {
		if strings.HasPrefix(part, "swk_") || strings.HasPrefix(part, "wh") && strings.Contains(part, "_") {
			parts[i] = redacted
		}
	}
	return strings.Join(parts, "/")
}

// observe counts a request and writes it to the access log, if there is one: without query, headers
// and body, which may be confidential.
func (s *Server) observe(c *fiber.Ctx, began time.Time) {
	status := c.Response().StatusCode()
	route, known := c.Locals(routeLocal{}).(string)
	method := otherRoute
	if i := slices.Index(fiber.DefaultMethods, c.Method()); known && i >= 0 {
		method = fiber.DefaultMethods[i] // Fiber's string is memory that the next request overwrites
	} else {
		route = otherRoute
	}
	if s.requests != nil {
		s.requests.WithLabelValues(method, route, strconv.Itoa(status)).Inc()
	}
	if s.cfg.AccessLog == nil {
		return
	}
	key, _ := c.Locals(keyLocal{}).(string)
	path := otherRoute // the path is arbitrary
	if known {
		path = loggedPath(c.Path())
	}
	attributes := []slog.Attr{
		slog.String("method", method), slog.String("path", path), slog.Int("status", status),
		slog.Duration("duration", time.Since(began)), slog.String("address", s.address(c).String()),
	}
	if key != "" {
		attributes = append(attributes, slog.String("key_id", key))
	}
	s.cfg.AccessLog.LogAttrs(c.Context(), slog.LevelInfo, "request", attributes...)
}
