package catalog

import (
	"cmp"
	"net/http"
	"net/url"

	"switchhook/engine"
	"switchhook/scripts"
	"switchhook/scripts/jsonindex"
	"switchhook/scripts/weburl"
)

// ScriptEvent is ev as filters and transforms see it; doc is its data, if somebody has read it.
func ScriptEvent(ev *engine.Event, doc jsonindex.Value) *scripts.Event {
	return &scripts.Event{
		ID: ev.PublicID(), Type: ev.Type, Account: ev.Account, Time: ev.Time, Received: ev.Received(),
		Headers: ev.Headers, Data: ev.Data, Doc: doc,
	}
}

// DropReason returns the reason with which a transform dropped a delivery.
func DropReason(res scripts.Result) string {
	if res.DropReason == "" {
		return "dropped by the transform"
	}
	return res.DropReason
}

// RequestOf is what a transform sees of the request before it changes anything.
func RequestOf(r *CompiledSubscription) scripts.Request {
	return scripts.Request{Method: http.MethodPost, Path: RequestPath(r.TargetURL), Query: weburl.QueryValues(r.TargetURL.RawQuery), Headers: r.Sub.Headers}
}

// RequestPath is the path that stands in the request line.
func RequestPath(u *url.URL) string { return cmp.Or(u.EscapedPath(), "/") }
