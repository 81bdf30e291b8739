package server

import (
	"strings"

	"github.com/gofiber/fiber/v2"
)

const apiPath = "/api/v1"

// route is one operation of the API.
type route struct {
	method  string
	path    string // as Fiber writes it: "/api/v1/subscriptions/:id"
	handler fiber.Handler
	aliases []string // other paths of the same operation
}

// routes lists all operations. openapi.json describes each of them; a test holds the two
// together.
func (s *Server) routes() []route {
	admin := func(h handler) fiber.Handler { return s.authenticated(adminOnly(h)) }
	list := []route{
		{"GET", "/api/v1/subscriptions", s.authenticated(s.listSubscriptions), nil},
		{"POST", "/api/v1/subscriptions", s.authenticated(s.createSubscription), nil},
		{"GET", "/api/v1/subscriptions/:id", s.authenticated(s.getSubscription), nil},
		{"PUT", "/api/v1/subscriptions/:id", s.authenticated(s.replaceSubscription), nil},
		{"PATCH", "/api/v1/subscriptions/:id", s.authenticated(s.patchSubscription), nil},
		{"DELETE", "/api/v1/subscriptions/:id", s.authenticated(s.deleteSubscription), nil},
		{"GET", "/api/v1/subscriptions/:id/secret", s.authenticated(s.getSecret), nil},
		{"POST", "/api/v1/subscriptions/:id/rotate-secret", s.authenticated(s.rotateSecret), nil},

		{"POST", "/api/v1/events", s.authenticated(s.publish), nil},
		{"GET", "/api/v1/events", s.authenticated(s.listEvents), nil},
		{"GET", "/api/v1/events/:id", s.authenticated(s.getEvent), nil},

		{"GET", "/api/v1/deliveries", s.authenticated(s.listDeliveries), nil},
		{"GET", "/api/v1/deliveries/:id", s.authenticated(s.getDelivery), nil},
		{"POST", "/api/v1/deliveries/:id/retry", s.authenticated(s.retryDelivery), nil},

		{"GET", "/api/v1/replays", s.authenticated(s.listReplays), nil},
		{"POST", "/api/v1/replays", s.authenticated(s.createReplay), nil},
		{"GET", "/api/v1/replays/:id", s.authenticated(s.getReplay), nil},
		{"POST", "/api/v1/replays/:id/pause", s.authenticated(s.pauseReplay), nil},
		{"POST", "/api/v1/replays/:id/resume", s.authenticated(s.resumeReplay), nil},
		{"POST", "/api/v1/replays/:id/cancel", s.authenticated(s.cancelReplay), nil},

		{"GET", "/api/v1/event-types", s.authenticated(s.listEventTypes), nil},
		{"POST", "/api/v1/event-types", admin(s.createEventType), nil},
		{"GET", "/api/v1/event-types/:name", s.authenticated(s.getEventType), nil},
		{"PUT", "/api/v1/event-types/:name", admin(s.putEventType), nil},
		{"DELETE", "/api/v1/event-types/:name", admin(s.deleteEventType), nil},

		{"GET", "/api/v1/scripts", s.authenticated(s.listScripts), nil},
		{"POST", "/api/v1/scripts", s.authenticated(s.createScript), nil},
		{"GET", "/api/v1/scripts/:id", s.authenticated(s.getScript), nil},
		{"PATCH", "/api/v1/scripts/:id", s.authenticated(s.patchScript), nil},
		{"DELETE", "/api/v1/scripts/:id", s.authenticated(s.deleteScript), nil},
		{"GET", "/api/v1/scripts/:id/versions", s.authenticated(s.listVersions), nil},
		{"POST", "/api/v1/scripts/:id/versions", s.authenticated(s.createVersion), nil},
		{"GET", "/api/v1/scripts/:id/versions/:version", s.authenticated(s.getVersion), nil},
		{"GET", "/api/v1/scripts/:id/versions/:version/diff/:other", s.authenticated(s.diffVersions), nil},
		{"PUT", "/api/v1/scripts/:id/live", s.authenticated(s.putLive), nil},
		{"GET", "/api/v1/scripts/:id/usage", s.authenticated(s.scriptUsage), nil},
		{"POST", "/api/v1/scripts/:id/test", s.authenticated(s.testScript), nil},
		{"POST", "/api/v1/scripts/:id/backtest", s.authenticated(s.backtest), nil},
		{"GET", "/api/v1/scripts/:id/shadow", s.authenticated(s.getShadow), nil},
		{"PUT", "/api/v1/scripts/:id/shadow", s.authenticated(s.putShadow), nil},
		{"DELETE", "/api/v1/scripts/:id/shadow", s.authenticated(s.deleteShadow), nil},
		{"POST", "/api/v1/try", s.authenticated(s.try), nil},

		{"GET", "/api/v1/keys", admin(s.listKeys), nil},
		{"POST", "/api/v1/keys", admin(s.createKey), nil},
		{"DELETE", "/api/v1/keys/:id", admin(s.deleteKey), nil},

		{"GET", "/api/v1/switchhook.d.ts", s.authenticated(s.types), nil},
		{"GET", "/api/v1/openapi.json", s.openAPI, nil},
		{"GET", "/healthz", s.health, nil},
		{"GET", "/readyz", s.ready, nil},
		{"GET", "/metrics", s.metrics(), nil},
		{"GET", "/", s.page, nil},
	}
	for i := range list {
		list[i].aliases = singular(list[i].path)
	}
	return list
}

// nouns are the resources whose paths work in the singular as well.
var nouns = map[string]string{
	"subscriptions": "subscription", "events": "event", "deliveries": "delivery", "replays": "replay", "event-types": "event-type", "scripts": "script", "keys": "key",
}

func singular(path string) []string {
	rest, ok := strings.CutPrefix(path, apiPath+"/")
	noun, tail, _ := strings.Cut(rest, "/")
	one := nouns[noun]
	if !ok || one == "" {
		return nil
	}
	if tail != "" {
		one += "/" + tail
	}
	return []string{apiPath + "/" + one}
}

// register adds the route; Fiber takes each path with and without a trailing slash, and
// HEAD where there is GET.
func (r route) register(app *fiber.App) {
	for _, path := range append([]string{r.path}, r.aliases...) {
		if r.method == fiber.MethodGet {
			app.Get(path, r.handler)
		} else {
			app.Add(r.method, path, r.handler)
		}
	}
}
