package server

import (
	"strings"

	"github.com/gofiber/fiber/v2"

	"switchhook/engine"
)

const apiPath = "/api/v1"

// route is one operation of the API.
type route struct {
	method  string
	path    string // as Fiber writes it: "/api/v1/subscriptions/:id"
	access  access // who may use it
	handler handler
}

// access is what a key needs for a route.
type access struct {
	unauthenticated bool           // needs no key
	admin           bool           // needs an admin key
	scopes          []engine.Scope // needs all of these
	token           bool           // needs no key if ?token= is given: the handler checks it
	deliveries      bool           // open to deliveries, whose targets are this router
}

var (
	unauthenticated = access{unauthenticated: true}
	anyKey          = access{}
	admin           = access{admin: true}

	publish     = access{scopes: []engine.Scope{engine.ScopePublish}, deliveries: true}
	subscribe   = access{scopes: []engine.Scope{engine.ScopeSubscribe}}
	scripting   = access{scopes: []engine.Scope{engine.ScopeScripts}}
	read        = access{scopes: []engine.Scope{engine.ScopeRead}}
	readOrToken = access{scopes: []engine.Scope{engine.ScopeRead}, token: true}
	// Previews with a subscription, which can show stored events.
	subscribeAndRead = access{scopes: []engine.Scope{engine.ScopeSubscribe, engine.ScopeRead}}
	// Work on scripts that can show stored events.
	scriptingAndRead = access{scopes: []engine.Scope{engine.ScopeScripts, engine.ScopeRead}}
)

// routes returns all operations. A test checks that openapi.json describes exactly these.
func (s *Server) routes() []route {
	return []route{
		{"GET", "/api/v1/subscriptions", read, s.listSubscriptions},
		{"POST", "/api/v1/subscriptions", subscribe, s.once(s.createSubscription)},
		{"GET", "/api/v1/subscriptions/:id", read, s.getSubscription},
		{"PUT", "/api/v1/subscriptions/:id", subscribe, s.replaceSubscription},
		{"PATCH", "/api/v1/subscriptions/:id", subscribe, s.updateSubscription},
		{"DELETE", "/api/v1/subscriptions/:id", subscribe, s.deleteSubscription},
		{"GET", "/api/v1/subscriptions/:id/secret", subscribe, s.getSecret},
		{"POST", "/api/v1/subscriptions/:id/rotate-secret", subscribe, s.rotateSecret},

		{"POST", "/api/v1/subscriptions/:id/test", subscribeAndRead, s.once(s.testSubscription)},
		{"POST", "/api/v1/subscriptions/:id/confirm", unauthenticated, public(s.confirmSubscription)},

		{"POST", "/api/v1/events", publish, s.publish},
		{"GET", "/api/v1/events", read, s.listEvents},
		{"GET", "/api/v1/events/:id", readOrToken, s.getEvent},

		{"GET", "/api/v1/deliveries", read, s.listDeliveries},
		{"GET", "/api/v1/deliveries/:id", read, s.getDelivery},
		{"GET", "/api/v1/deliveries/:id/attempts", read, s.listAttempts},
		{"GET", "/api/v1/deliveries/:id/attempts/:number", read, s.getAttempt},
		{"POST", "/api/v1/deliveries/:id/retry", subscribe, s.once(s.retryDelivery)},

		{"GET", "/api/v1/replays", read, s.listReplays},
		{"POST", "/api/v1/replays", subscribe, s.once(s.createReplay)},
		{"GET", "/api/v1/replays/:id", read, s.getReplay},
		{"POST", "/api/v1/replays/:id/pause", subscribe, s.pauseReplay},
		{"POST", "/api/v1/replays/:id/resume", subscribe, s.resumeReplay},
		{"POST", "/api/v1/replays/:id/cancel", subscribe, s.cancelReplay},

		{"GET", "/api/v1/event-types", anyKey, s.listEventTypes},
		{"POST", "/api/v1/event-types", admin, s.once(s.createEventType)},
		{"GET", "/api/v1/event-types/:name", anyKey, s.getEventType},
		{"GET", "/api/v1/event-types/:name/samples", read, s.listSamples},
		{"PUT", "/api/v1/event-types/:name", admin, s.replaceEventType},
		{"PATCH", "/api/v1/event-types/:name", admin, s.updateEventType},
		{"DELETE", "/api/v1/event-types/:name", admin, s.deleteEventType},

		{"GET", "/api/v1/scripts", read, s.listScripts},
		{"POST", "/api/v1/scripts", scripting, s.once(s.createScript)},
		{"GET", "/api/v1/scripts/:id", read, s.getScript},
		{"PUT", "/api/v1/scripts/:id", scripting, s.replaceScript},
		{"PATCH", "/api/v1/scripts/:id", scripting, s.updateScript},
		{"DELETE", "/api/v1/scripts/:id", scripting, s.deleteScript},
		{"GET", "/api/v1/scripts/:id/subscriptions", read, s.listScriptSubscriptions},
		{"GET", "/api/v1/scripts/:id/versions", read, s.listScriptVersions},
		{"POST", "/api/v1/scripts/:id/versions", scripting, s.once(s.createScriptVersion)},
		{"GET", "/api/v1/scripts/:id/versions/:version", read, s.getScriptVersion},
		{"GET", "/api/v1/scripts/:id/versions/:version/diff", read, s.diffScriptVersions},
		{"POST", "/api/v1/scripts/:id/versions/:version/activate", scripting, s.once(s.activateScriptVersion)},
		{"POST", "/api/v1/scripts/:id/test", scripting, s.testScript},
		{"POST", "/api/v1/scripts/:id/compare", scriptingAndRead, s.compareScript},
		{"GET", "/api/v1/scripts/:id/shadow", read, s.getScriptShadow},
		{"POST", "/api/v1/scripts/:id/shadow", scripting, s.once(s.startScriptShadow)},
		{"DELETE", "/api/v1/scripts/:id/shadow", scripting, s.stopScriptShadow},
		{"POST", "/api/v1/preview", scripting, s.preview},

		{"GET", "/api/v1/me", anyKey, s.whoami},
		{"GET", "/api/v1/keys", admin, s.listKeys},
		{"POST", "/api/v1/keys", admin, s.once(s.createKey)},
		{"GET", "/api/v1/keys/:id", admin, s.getKey},
		{"PATCH", "/api/v1/keys/:id", admin, s.updateKey},
		{"DELETE", "/api/v1/keys/:id", admin, s.deleteKey},
		{"POST", "/api/v1/keys/:id/rotate", admin, s.once(s.rotateKey)},

		{"GET", "/api/v1/accounts", admin, s.listAccounts},
		{"GET", "/api/v1/accounts/:name", read, s.getAccount},
		{"PUT", "/api/v1/accounts/:name", admin, s.replaceAccount},
		{"PATCH", "/api/v1/accounts/:name", admin, s.updateAccount},
		{"DELETE", "/api/v1/accounts/:name", admin, s.deleteAccount},

		{"GET", "/api/v1/audit", read, s.listAudit},

		{"GET", "/api/v1/switchhook.d.ts", anyKey, s.types},
		{"GET", "/api/v1/openapi.json", unauthenticated, public(s.openAPI)},
		{"GET", "/healthz", unauthenticated, public(s.health)},
		{"GET", "/readyz", unauthenticated, public(s.ready)},
		{"GET", "/metrics", s.metricsAccess(), public(s.metrics())},
		{"GET", "/", unauthenticated, public(s.page)},
	}
}

// singular holds the resources whose paths also work with their name in the singular.
var singular = map[string]string{
	"subscriptions": "subscription", "events": "event", "deliveries": "delivery", "replays": "replay",
	"event-types": "event-type", "scripts": "script", "keys": "key", "accounts": "account",
}

// paths returns the paths of the operation: its own and, for a resource, the one in the singular.
func (r route) paths() []string {
	rest, _ := strings.CutPrefix(r.path, apiPath+"/")
	noun, tail, _ := strings.Cut(rest, "/")
	one := singular[noun]
	if one == "" {
		return []string{r.path}
	}
	return []string{r.path, strings.TrimSuffix(apiPath+"/"+one+"/"+tail, "/")}
}

// register adds the route; Fiber accepts each path with and without a trailing slash, and HEAD for
// every GET.
func (r route) register(app *fiber.App, handler fiber.Handler) {
	handler = named(r.path, handler)
	for _, path := range r.paths() {
		if r.method == fiber.MethodGet {
			app.Get(path, handler)
		} else {
			app.Add(r.method, path, handler)
		}
	}
}
