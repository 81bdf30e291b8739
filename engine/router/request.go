package router

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"switchhook/engine"
	"switchhook/engine/cloudevents"
	"switchhook/engine/signature"
	"switchhook/engine/target"
	"switchhook/scripts"
	"switchhook/scripts/jsonindex"
	"switchhook/scripts/weburl"
)

// buildRequest makes the request of a delivery, signed and ready to be sent, and notes it in
// a. The error is the transform's.
func (s *Sender) buildRequest(ctx context.Context, r *compiledSubscription, ev *engine.Event, a *engine.Attempt) (_ *deliveryRequest, dropped string, err error) {
	out, dropped, err := s.buildUnsigned(ctx, r, ev, a, s.buildPayload)
	if out == nil {
		return nil, dropped, err
	}
	if n := ev.Sequence(r.sub.ID); n > 0 {
		out.headers[engine.SequenceHeader] = []string{strconv.FormatInt(n, 10)}
	}
	s.sign(out, r, ev.ID.Format(engine.EventPrefix), a.At)
	a.Request.Method, a.Request.URL, a.Request.Headers = out.method, out.redact.Url(out.targetURL.String()), out.redact.Request(out.headers)
	return out, "", nil
}

// buildUnsigned does so without what makes it one delivery's: its id, number and
// signature. format is content, or element where it is to stand in an array. The body is
// noted in a.
func (s *Sender) buildUnsigned(ctx context.Context, r *compiledSubscription, ev *engine.Event, a *engine.Attempt, format payloadBuilder) (_ *deliveryRequest, dropped string, err error) {
	out := &deliveryRequest{method: http.MethodPost, targetURL: r.targetURL, headers: baseHeaders(r), redact: r.redact}
	if r.transformSource != "" {
		if dropped, err = s.transform(ctx, r, ev, out, a); err != nil || dropped != "" {
			return nil, dropped, err
		}
		a.Request.Body = out.redact.Body(out.body)
		return out, "", nil
	}
	c := format(r.sub, ev, a.At)
	out.setContent(&c)
	switch a.Request.Plain = c.plain; {
	case c.shown != nil:
		a.Request.Body = c.shown
	case c.plain == "":
		a.Request.Body = c.body
	}
	return out, "", nil
}

func baseHeaders(r *compiledSubscription) http.Header {
	headers := make(http.Header, len(r.headers)+8)
	for name, values := range r.headers {
		headers[name] = values
	}
	return headers
}

// deliveryRequest is a request on its way out.
type deliveryRequest struct {
	method      string
	targetURL         *url.URL
	headers     http.Header
	body        []byte
	contentType string
	changed     bool // by the transform, beyond the body
	redact      *engine.Redactor
}

// advance makes c what is sent. Where the content type says how the body is to be read, as it
// does of a CloudEvent, the subscription's own headers must not say otherwise.
func (out *deliveryRequest) setContent(c *payload) {
	out.body, out.contentType = c.body, c.mediaType
	if c.mediaType == cloudevents.StructuredMedia || c.headers != nil {
		deleteHeader(out.headers, "Content-Type")
		for name := range out.headers {
			if hasPrefixFold(name, "Ce-") {
				delete(out.headers, name)
			}
		}
	}
	for _, h := range c.headers {
		out.headers[h.Name] = []string{h.Value}
	}
}

// transform lets the subscription's script make the request.
func (s *Sender) transform(ctx context.Context, r *compiledSubscription, ev *engine.Event, out *deliveryRequest, a *engine.Attempt) (dropped string, err error) {
	program, err := s.catalog.compiledTransform(ctx, r)
	if err != nil {
		return "", err
	}
	a.Script.Ref, a.Script.Hash = r.transformRef, program.Hash
	sandbox, request := s.cfg.Transformer, requestOf(r)
	if r.dryRun {
		sandbox, request = s.catalog.transformer(), previewRequest(r, r.masked)
	}
	running, span := s.traces.start(ctx, "transform")
	res, err := sandbox.Run(running, program, scriptEvent(ev, jsonindex.Value{}), request)
	err = r.redact.ScriptError(err)
	endSpan(span, scriptProblem(err))
	s.monitor.compareTransform(r, ev, res, err)
	if err != nil {
		var se *scripts.Error
		if errors.As(err, &se) {
			a.Script.CPU, a.Script.Console = se.CPU, se.Console
		}
		return "", err
	}
	a.Script.CPU, a.Script.Memory, a.Script.Console = res.CPU, res.Memory, r.redact.Lines(res.Console)
	if res.Dropped {
		return r.redact.Text(dropReason(res)), nil
	}
	if r.masked && res.Request != nil {
		res.Request = unmask(r, res.Request, &request)
	}
	if err := out.setResult(&res); err != nil {
		return "", r.redact.ScriptError(err)
	}
	if err := keepsSignatures(r, out); err != nil {
		return "", err
	}
	return "", checkPathUnchanged(r, out)
}

// setResult makes what a transform gave what is sent.
func (out *deliveryRequest) setResult(res *scripts.Result) error {
	out.body, out.contentType = res.Body, res.ContentType
	if res.Request == nil {
		return nil
	}
	return out.apply(res.Request)
}

// previewRequest is request without the values that are hidden: who may try a script need not
// know them. With mask that goes for the URL, too, as for who may not change the subscription.
func previewRequest(r *compiledSubscription, mask bool) scripts.Request {
	req := requestOf(r)
	req.Headers = r.sub.ShownHeaders()
	if mask {
		req.Path = engine.MaskPath(req.Path)
		for name, values := range req.Query {
			req.Query[name] = slices.Repeat([]string{engine.RedactedValue}, len(values))
		}
	}
	return req
}

// unmask puts the URL's own parts back where a script left their masks as they were.
func unmask(r *compiledSubscription, made, seen *scripts.Request) *scripts.Request {
	restored, own := *made, requestOf(r)
	if made.Path == seen.Path {
		restored.Path = own.Path
	}
	restored.Query = maps.Clone(made.Query)
	for name, values := range made.Query {
		if slices.Equal(values, seen.Query[name]) {
			restored.Query[name] = own.Query[name]
		}
	}
	return &restored
}

// checkPathUnchanged refuses a request to another path than the one whose target has confirmed that
// it wants to be sent events.
func checkPathUnchanged(r *compiledSubscription, out *deliveryRequest) error {
	if r.sub.Verification.Mode == engine.VerifyNone || out.targetURL.EscapedPath() == r.targetURL.EscapedPath() || out.targetURL.EscapedPath() == "/" && r.targetURL.Path == "" {
		return nil
	}
	return &scripts.Error{Phase: scripts.PhaseRun, Message: "request.path can't be changed: the target has confirmed for its own path alone that it wants to be sent events"}
}

// keepsSignatures refuses headers that a receiver may take for a signature of the router.
func keepsSignatures(r *compiledSubscription, out *deliveryRequest) error {
	if !out.changed {
		return nil
	}
	for name, values := range out.headers {
		if signatureHeader(name, r.sub.Signatures) && !slices.Equal(values, r.headers[name]) {
			return &scripts.Error{Phase: scripts.PhaseRun, Message: fmt.Sprintf("request.headers: %.100q is set by the router and can't be given", name)}
		}
	}
	return nil
}

// apply takes over what a script made of the request, after the same checks that a
// subscription's own URL and headers go through. The host can't be changed.
func (out *deliveryRequest) apply(req *scripts.Request) error {
	u := *out.targetURL
	if req.Path != requestPath(&u) {
		if !strings.HasPrefix(req.Path, "/") || strings.ContainsAny(req.Path, "?#") || target.SetPath(&u, req.Path) != nil {
			return &scripts.Error{Phase: scripts.PhaseRun, Message: fmt.Sprintf("request.path %.100q is no path: it must begin with / and hold no ? or #", req.Path)}
		}
	}
	u.RawQuery = weburl.ChangeQuery(u.RawQuery, req.Query)
	u.ForceQuery = u.ForceQuery && u.RawQuery == ""
	if len(u.Path)+len(u.RawQuery) > 8<<10 {
		return &scripts.Error{Phase: scripts.PhaseRun, Message: "request.path and request.query are longer than 8 KiB"}
	}
	if len(req.Headers) > maxHeaders {
		return &scripts.Error{Phase: scripts.PhaseRun, Message: fmt.Sprintf("request.headers holds %d headers, %d are allowed", len(req.Headers), maxHeaders)}
	}
	headers := make(http.Header, len(req.Headers)+8)
	for name, value := range req.Headers {
		if own := out.headers[name]; len(own) == 1 && own[0] == value {
			headers[name] = own // the subscription's, checked when it was saved
			continue
		}
		if problem := checkHeader(name, value); problem != "" {
			return &scripts.Error{Phase: scripts.PhaseRun, Message: fmt.Sprintf("request.headers: %.100q %s", name, problem)}
		}
		headers[name] = []string{value}
	}
	out.method, out.targetURL, out.headers, out.changed = req.Method, &u, headers, true
	return nil
}

// sign adds the router's own headers and the signatures.
func (s *Sender) sign(out *deliveryRequest, r *compiledSubscription, id string, at time.Time) {
	if r.sub.Verification.Mode == engine.VerifyCloudEvents {
		out.headers["WebHook-Request-Origin"] = []string{s.cfg.Origin}
	}
	out.sign(r.signer, id, at, s.cfg.UserAgent)
}

func (out *deliveryRequest) sign(g *signature.Signer, id string, at time.Time, userAgent string) {
	g.Sign(out.headers, id, at, out.body)
	for _, d := range [...]engine.Header{{Name: "Content-Type", Value: out.contentType}, {Name: "User-Agent", Value: userAgent}, {Name: "Accept", Value: "*/*"}} {
		if d.Value != "" && !hasHeader(out.headers, d.Name) {
			out.headers[d.Name] = []string{d.Value}
		}
	}
}

// renderPlain fills in the body of an attempt that was not stored, because the payload
// format makes it again.
func renderPlain(a *engine.Attempt, ev *engine.Event) {
	if a.Request.Plain != "" && a.Request.Method != "" {
		a.Request.Body = plainBody(a.Request.Plain, ev)
		if a.Batch > 0 && a.Request.Plain == engine.FormatStandard {
			a.Request.Body = withEventID(a.Request.Body, ev.ID)
		}
	}
}
