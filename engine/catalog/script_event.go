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

// ScriptEvent returns ev as filters and transforms see it; doc is its parsed data, if available.
func ScriptEvent(ev *engine.Event, doc jsonindex.Value) *scripts.Event {
	return &scripts.Event{
		ID: ev.PublicID(), Type: ev.Type, Account: ev.Account, Time: ev.Time, Received: ev.Received(),
		Headers: ev.Headers, Data: ev.Data, Doc: doc,
	}
}

// RequestOf returns the request as a transform sees it at first.
func RequestOf(r *CompiledSubscription) scripts.Request {
	return scripts.Request{Method: http.MethodPost, Path: RequestPath(r.TargetURL), Query: weburl.QueryValues(r.TargetURL.RawQuery), Headers: r.Sub.Headers}
}

// RequestPath returns the path for the request line.
func RequestPath(u *url.URL) string { return cmp.Or(u.EscapedPath(), "/") }
