package server

import (
	_ "embed"

	"github.com/gofiber/fiber/v2"
	"github.com/gofiber/fiber/v2/middleware/adaptor"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"switchhook/scripts/dts"
	"switchhook/server/api"
)

//go:embed openapi.json
var openAPIDocument []byte

//go:embed web/index.html
var startPage []byte

func (s *Server) openAPI(c *fiber.Ctx) error {
	c.Set(fiber.HeaderContentType, fiber.MIMEApplicationJSON)
	return c.Send(openAPIDocument)
}

// types responds with the TypeScript types of transforms and of the data of all event types.
func (s *Server) types(c *fiber.Ctx, _ caller) error {
	var all []dts.EventType
	for _, t := range s.engine.EventTypes() {
		all = append(all, dts.EventType{Name: t.Name, Description: t.Description, Schema: t.Schema})
	}
	c.Set(fiber.HeaderContentType, fiber.MIMETextPlainCharsetUTF8)
	return c.SendString(dts.Declarations() + "\n" + dts.Events(all))
}

// page serves the start page.
func (s *Server) page(c *fiber.Ctx) error {
	c.Set(fiber.HeaderContentType, fiber.MIMETextHTMLCharsetUTF8)
	c.Set(fiber.HeaderContentSecurityPolicy, "default-src 'none'; style-src 'unsafe-inline'")
	return c.Send(startPage)
}

// health reports that the process runs.
func (s *Server) health(c *fiber.Ctx) error {
	return c.JSON(api.Health{Status: "ok", Version: s.cfg.Version})
}

// ready reports whether events can be accepted, and why deliveries are delayed.
func (s *Server) ready(c *fiber.Ctx) error {
	if err := s.engine.Ready(c.UserContext()); err != nil {
		return newProblem(fiber.StatusServiceUnavailable, "events can't be accepted: "+err.Error())
	}
	return c.JSON(api.Readiness{Status: "ready", Degraded: s.engine.Lacking()})
}

// metricsAccess is public, or requires an admin key if so configured.
func (s *Server) metricsAccess() access {
	if s.cfg.MetricsKeys {
		return admin
	}
	return unauthenticated
}

func (s *Server) metrics() fiber.Handler {
	if s.cfg.Gatherer == nil {
		return unknownRoute
	}
	return adaptor.HTTPHandler(promhttp.HandlerFor(s.cfg.Gatherer, promhttp.HandlerOpts{}))
}
