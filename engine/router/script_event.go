package router

import (
	"cmp"
	"net/http"
	"net/url"
	"switchhook/engine"
	"switchhook/scripts"
	"switchhook/scripts/jsonindex"
	"switchhook/scripts/weburl"
)

// scriptEvent is ev as filters and transforms see it; doc is its data, if somebody has read it.
func scriptEvent(ev *engine.Event, doc jsonindex.Value) *scripts.Event {
	return &scripts.Event{
		ID: ev.PublicID(), Type: ev.Type, Account: ev.Account, Time: ev.Time, Received: ev.Received(),
		Headers: ev.Headers, Data: ev.Data, Doc: doc,
	}
}

func dropReason(res scripts.Result) string {
	if res.DropReason == "" {
		return "dropped by the transform"
	}
	return res.DropReason
}

// requestOf is what a transform sees of the request before it changes anything.
func requestOf(r *compiledSubscription) scripts.Request {
	return scripts.Request{Method: http.MethodPost, Path: requestPath(r.targetURL), Query: weburl.QueryValues(r.targetURL.RawQuery), Headers: r.sub.Headers}
}

// requestPath is the path that stands in the request line.
func requestPath(u *url.URL) string { return cmp.Or(u.EscapedPath(), "/") }
