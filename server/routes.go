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
	aliases []string // other paths of the same operation
}

// access is what a key needs for a route.
type access struct {
	unauthenticated bool           // needs no key
	admin           bool           // needs an admin key
	scopes          []engine.Scope // needs all of these
	token           bool           // needs no key if ?token= is given: the handler checks it
}

var (
	unauthenticated = access{unauthenticated: true}
	anyKey          = access{}
	admin           = access{admin: true}

	publish     = access{scopes: []engine.Scope{engine.ScopePublish}}
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
	list := []route{
		{"GET", "/api/v1/subscriptions", read, s.listSubscriptions, nil},
		{"POST", "/api/v1/subscriptions", subscribe, s.once(s.createSubscription), nil},
		{"GET", "/api/v1/subscriptions/:id", read, s.getSubscription, nil},
		{"PUT", "/api/v1/subscriptions/:id", subscribe, s.replaceSubscription, nil},
		{"PATCH", "/api/v1/subscriptions/:id", subscribe, s.updateSubscription, nil},
		{"DELETE", "/api/v1/subscriptions/:id", subscribe, s.deleteSubscription, nil},
		{"GET", "/api/v1/subscriptions/:id/secret", subscribe, s.getSecret, nil},
		{"POST", "/api/v1/subscriptions/:id/rotate-secret", subscribe, s.rotateSecret, nil},

		{"POST", "/api/v1/subscriptions/:id/test", subscribeAndRead, s.once(s.testSubscription), nil},
		{"POST", "/api/v1/subscriptions/:id/confirm", unauthenticated, public(s.confirmSubscription), nil},

		{"POST", "/api/v1/events", publish, s.publish, nil},
		{"GET", "/api/v1/events", read, s.listEvents, nil},
		{"GET", "/api/v1/events/:id", readOrToken, s.getEvent, nil},

		{"GET", "/api/v1/deliveries", read, s.listDeliveries, nil},
		{"GET", "/api/v1/deliveries/:id", read, s.getDelivery, nil},
		{"POST", "/api/v1/deliveries/:id/retry", subscribe, s.once(s.retryDelivery), nil},

		{"GET", "/api/v1/replays", read, s.listReplays, nil},
		{"POST", "/api/v1/replays", subscribe, s.once(s.createReplay), nil},
		{"GET", "/api/v1/replays/:id", read, s.getReplay, nil},
		{"POST", "/api/v1/replays/:id/pause", subscribe, s.pauseReplay, nil},
		{"POST", "/api/v1/replays/:id/resume", subscribe, s.resumeReplay, nil},
		{"POST", "/api/v1/replays/:id/cancel", subscribe, s.cancelReplay, nil},

		{"GET", "/api/v1/event-types", anyKey, s.listEventTypes, nil},
		{"POST", "/api/v1/event-types", admin, s.once(s.createEventType), nil},
		{"GET", "/api/v1/event-types/:name", anyKey, s.getEventType, nil},
		{"GET", "/api/v1/event-types/:name/samples", read, s.listSamples, nil},
		{"PUT", "/api/v1/event-types/:name", admin, s.replaceEventType, nil},
		{"PATCH", "/api/v1/event-types/:name", admin, s.updateEventType, nil},
		{"DELETE", "/api/v1/event-types/:name", admin, s.deleteEventType, nil},

		{"GET", "/api/v1/scripts", read, s.listScripts, nil},
		{"POST", "/api/v1/scripts", scripting, s.once(s.createScript), nil},
		{"GET", "/api/v1/scripts/:id", read, s.getScript, nil},
		{"PUT", "/api/v1/scripts/:id", scripting, s.replaceScript, nil},
		{"PATCH", "/api/v1/scripts/:id", scripting, s.updateScript, nil},
		{"DELETE", "/api/v1/scripts/:id", scripting, s.deleteScript, nil},
		{"GET", "/api/v1/scripts/:id/subscriptions", read, s.listScriptSubscriptions, nil},
		{"GET", "/api/v1/scripts/:id/versions", read, s.listScriptVersions, nil},
		{"POST", "/api/v1/scripts/:id/versions", scripting, s.once(s.createScriptVersion), nil},
		{"GET", "/api/v1/scripts/:id/versions/:version", read, s.getScriptVersion, nil},
		{"GET", "/api/v1/scripts/:id/versions/:version/diff", read, s.diffScriptVersions, nil},
		{"POST", "/api/v1/scripts/:id/versions/:version/activate", scripting, s.once(s.activateScriptVersion), nil},
		{"POST", "/api/v1/scripts/:id/test", scripting, s.testScript, nil},
		{"POST", "/api/v1/scripts/:id/compare", scriptingAndRead, s.compareScript, nil},
		{"GET", "/api/v1/scripts/:id/shadow", read, s.getScriptShadow, nil},
		{"POST", "/api/v1/scripts/:id/shadow", scripting, s.once(s.startScriptShadow), nil},
		{"DELETE", "/api/v1/scripts/:id/shadow", scripting, s.stopScriptShadow, nil},
		{"POST", "/api/v1/preview", scripting, s.preview, nil},

		{"GET", "/api/v1/me", anyKey, s.whoami, nil},
		{"GET", "/api/v1/keys", admin, s.listKeys, nil},
		{"POST", "/api/v1/keys", admin, s.once(s.createKey), nil},
		{"GET", "/api/v1/keys/:id", admin, s.getKey, nil},
		{"PATCH", "/api/v1/keys/:id", admin, s.updateKey, nil},
		{"DELETE", "/api/v1/keys/:id", admin, s.deleteKey, nil},
		{"POST", "/api/v1/keys/:id/rotate", admin, s.once(s.rotateKey), nil},

		{"GET", "/api/v1/accounts", admin, s.listAccounts, nil},
		{"GET", "/api/v1/accounts/:name", read, s.getAccount, nil},
		{"PUT", "/api/v1/accounts/:name", admin, s.replaceAccount, nil},
		{"PATCH", "/api/v1/accounts/:name", admin, s.updateAccount, nil},
		{"DELETE", "/api/v1/accounts/:name", admin, s.deleteAccount, nil},

		{"GET", "/api/v1/audit", read, s.listAudit, nil},

		{"GET", "/api/v1/switchhook.d.ts", anyKey, s.types, nil},
		{"GET", "/api/v1/openapi.json", unauthenticated, public(s.openAPI), nil},
		{"GET", "/healthz", unauthenticated, public(s.health), nil},
		{"GET", "/readyz", unauthenticated, public(s.ready), nil},
		{"GET", "/metrics", s.metricsAccess(), public(s.metrics()), nil},
		{"GET", "/", unauthenticated, public(s.page), nil},
	}
	for i := range list {
		list[i].aliases = singular(list[i].path)
	}
	return list
}

// nouns are the resources whose paths also work in the singular.
var nouns = map[string]string{
	"subscriptions": "subscription", "events": "event", "deliveries": "delivery", "replays": "replay", "event-types": "event-type", "scripts": "script", "keys": "key", "accounts": "account",
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

// register adds the route; Fiber accepts each path with and without a trailing slash, and HEAD for
// every GET.
func (r route) register(app *fiber.App, handler fiber.Handler) {
	handler = named(r.path, handler)
	for _, path := range append([]string{r.path}, r.aliases...) {
		if r.method == fiber.MethodGet {
			app.Get(path, handler)
		} else {
			app.Add(r.method, path, handler)
		}
	}
}
