package outbound

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"switchhook/engine"
	"switchhook/engine/catalog"
	"switchhook/engine/cloudevents"
	"switchhook/engine/signature"
	"switchhook/engine/target"
	"switchhook/engine/telemetry"
	"switchhook/scripts"
	"switchhook/scripts/jsonindex"
	"switchhook/scripts/weburl"
)

// BuildUnsigned builds the request without the parts of one delivery: id, sequence number and
// signature. array means that its body will be an element of an array. The body is recorded in a.
// The error is the transform's.
func (s *Sender) BuildUnsigned(ctx context.Context, r *catalog.CompiledSubscription, ev *engine.Event, a *engine.Attempt, array bool) (_ *DeliveryRequest, dropped string, err error) {
	if r.Transform.Source == "" {
		format := s.buildPayload
		if array {
			format = s.BuildBatchElement
		}
		return buildPlain(r, ev, a, format), "", nil
	}
	res, err := s.transform(ctx, r, ev, a)
	if err != nil {
		return nil, "", err
	}
	if why := res.DropMessage(); why != "" {
		return nil, r.Redact.Text(why), nil
	}
	out, err := BuildTransformed(r, &res, a)
	return out, "", err
}

// BuildPlain builds the request of a subscription without a transform, as BuildUnsigned does.
func (s *Sender) BuildPlain(r *catalog.CompiledSubscription, ev *engine.Event, a *engine.Attempt) *DeliveryRequest {
	return buildPlain(r, ev, a, s.buildPayload)
}

func buildPlain(r *catalog.CompiledSubscription, ev *engine.Event, a *engine.Attempt, format payloadBuilder) *DeliveryRequest {
	out, c := newRequest(r), format(r.Sub, ev, a.At)
	out.SetContent(&c)
	switch a.Request.Plain = c.Plain; {
	case c.Shown != nil:
		a.Request.Body = c.Shown
	case c.Plain == "":
		a.Request.Body = c.Body
	}
	return out
}

// BuildTransformed builds the request from the result of a subscription's transform, as
// BuildUnsigned does. The error is the transform's.
func BuildTransformed(r *catalog.CompiledSubscription, res *scripts.Result, a *engine.Attempt) (*DeliveryRequest, error) {
	out := newRequest(r)
	if err := out.SetResult(res); err != nil {
		return nil, r.Redact.ScriptError(err)
	}
	if err := keepsSignatures(r, out); err != nil {
		return nil, err
	}
	if err := checkPathUnchanged(r, out); err != nil {
		return nil, err
	}
	a.Request.Body = out.Redact.Body(out.Body)
	return out, nil
}

// SignDelivery adds the parts of one delivery: id, sequence number and signature. The request is
// recorded in a.
func (s *Sender) SignDelivery(out *DeliveryRequest, r *catalog.CompiledSubscription, ev *engine.Event, a *engine.Attempt) {
	if n := ev.Sequence(r.Sub.ID); n > 0 {
		out.Headers[engine.SequenceHeader] = []string{strconv.FormatInt(n, 10)}
	}
	s.Sign(out, r, ev.ID.Format(engine.EventPrefix), ev.Hops, a.At)
	a.Request.Method, a.Request.URL, a.Request.Headers = out.Method, out.Redact.URL(out.TargetURL.String()), out.Redact.Request(out.Headers)
}

func newRequest(r *catalog.CompiledSubscription) *DeliveryRequest {
	return &DeliveryRequest{Method: http.MethodPost, TargetURL: r.TargetURL, Headers: baseHeaders(r), Redact: r.Redact}
}

func baseHeaders(r *catalog.CompiledSubscription) http.Header {
	headers := make(http.Header, len(r.Headers)+8)
	for name, values := range r.Headers {
		headers[name] = values
	}
	return headers
}

// DeliveryRequest is the request of a delivery.
type DeliveryRequest struct {
	Method      string
	TargetURL   *url.URL
	Headers     http.Header
	Body        []byte
	ContentType string
	Changed     bool // by the transform, beyond the body
	Redact      *engine.Redactor
}

// SetContent sets the body. If the content type determines how the body is read, as for a
// CloudEvent, the subscription's own headers must not contradict it.
func (out *DeliveryRequest) SetContent(c *Payload) {
	out.Body, out.ContentType = c.Body, c.MediaType
	if c.MediaType == cloudevents.StructuredMedia || c.headers != nil {
		catalog.DeleteHeader(out.Headers, "Content-Type")
		for name := range out.Headers {
			if catalog.HasPrefixFold(name, "Ce-") {
				delete(out.Headers, name)
			}
		}
	}
	for _, h := range c.headers {
		out.Headers[h.Name] = []string{h.Value}
	}
}

// transform runs the subscription's script and records the run in a.
func (s *Sender) transform(ctx context.Context, r *catalog.CompiledSubscription, ev *engine.Event, a *engine.Attempt) (scripts.Result, error) {
	program, err := s.catalog.CompiledTransform(ctx, r)
	if err != nil {
		return scripts.Result{}, err
	}
	a.Script.Ref, a.Script.Hash = r.Transform.Ref, program.Hash
	running, span := s.traces.Start(ctx, "transform")
	res, err := s.cfg.Transformer.Run(scripts.ForAccount(running, ev.Account), program, catalog.ScriptEvent(ev, jsonindex.Value{}), catalog.RequestOf(r))
	err = r.Redact.ScriptError(err)
	telemetry.EndSpan(span, telemetry.ScriptProblem(err))
	s.monitor.CompareTransform(r, ev, res, err)
	var se *scripts.Error
	if errors.As(err, &se) {
		a.Script.CPU, a.Script.Console = se.CPU, se.Console
	}
	if err == nil {
		a.Script.CPU, a.Script.Memory, a.Script.Console = res.CPU, res.Memory, r.Redact.Lines(res.Console)
	}
	return res, err
}

// SetResult sets the request to the result of a transform.
func (out *DeliveryRequest) SetResult(res *scripts.Result) error {
	out.Body, out.ContentType = res.Body, res.ContentType
	if res.Request == nil {
		return nil
	}
	return out.apply(res.Request)
}

// checkPathUnchanged rejects a request to another path than the one whose target has confirmed.
func checkPathUnchanged(r *catalog.CompiledSubscription, out *DeliveryRequest) error {
	if r.Sub.Verification.Mode == engine.VerifyNone || out.TargetURL.EscapedPath() == r.TargetURL.EscapedPath() || out.TargetURL.EscapedPath() == "/" && r.TargetURL.Path == "" {
		return nil
	}
	return &scripts.Error{Phase: scripts.PhaseRun, Message: "request.path can't be changed: the target has confirmed for its own path alone that it wants to be sent events"}
}

// keepsSignatures rejects headers that a receiver may take for a signature of the router.
func keepsSignatures(r *catalog.CompiledSubscription, out *DeliveryRequest) error {
	if !out.Changed {
		return nil
	}
	for name, values := range out.Headers {
		if catalog.SignatureHeader(name, r.Sub.Signatures) && !slices.Equal(values, r.Headers[name]) {
			return &scripts.Error{Phase: scripts.PhaseRun, Message: fmt.Sprintf("request.headers: %.100q is set by the router and can't be given", name)}
		}
	}
	return nil
}

// apply applies a script's result to the request, after the same checks as for a subscription's own
// URL and headers. The host can't be changed.
func (out *DeliveryRequest) apply(req *scripts.Request) error {
	u := *out.TargetURL
	if req.Path != catalog.RequestPath(&u) {
		if !strings.HasPrefix(req.Path, "/") || strings.ContainsAny(req.Path, "?#") || target.SetPath(&u, req.Path) != nil {
			return &scripts.Error{Phase: scripts.PhaseRun, Message: fmt.Sprintf("request.path %.100q is not a path: it must begin with / and hold no ? or #", req.Path)}
		}
	}
	u.RawQuery = weburl.ChangeQuery(u.RawQuery, req.Query)
	u.ForceQuery = u.ForceQuery && u.RawQuery == ""
	if len(u.Path)+len(u.RawQuery) > 8<<10 {
		return &scripts.Error{Phase: scripts.PhaseRun, Message: "request.path and request.query are longer than 8 KiB"}
	}
	if len(req.Headers) > catalog.MaxHeaders {
		return &scripts.Error{Phase: scripts.PhaseRun, Message: fmt.Sprintf("request.headers holds %d headers, %d are allowed", len(req.Headers), catalog.MaxHeaders)}
	}
	headers := make(http.Header, len(req.Headers)+8)
	for name, value := range req.Headers {
		if own := out.Headers[name]; len(own) == 1 && own[0] == value {
			headers[name] = own // the subscription's own, validated when it was saved
			continue
		}
		if problem := catalog.CheckHeader(name, value); problem != "" {
			return &scripts.Error{Phase: scripts.PhaseRun, Message: fmt.Sprintf("request.headers: %.100q %s", name, problem)}
		}
		headers[name] = []string{value}
	}
	out.Method, out.TargetURL, out.Headers, out.Changed = req.Method, &u, headers, true
	return nil
}

// Sign adds the router's own headers and the signatures. hops are those of the event, or the most of
// several.
func (s *Sender) Sign(out *DeliveryRequest, r *catalog.CompiledSubscription, id string, hops int, at time.Time) {
	out.Headers[engine.HopsHeader] = []string{strconv.Itoa(hops + 1)}
	if r.Sub.Verification.Mode == engine.VerifyCloudEvents {
		out.Headers["WebHook-Request-Origin"] = []string{s.cfg.Origin}
	}
	out.Sign(r.Signer, id, at, s.cfg.UserAgent)
}

// Sign sets the id, the time and the signatures of the request.
func (out *DeliveryRequest) Sign(g *signature.Signer, id string, at time.Time, userAgent string) {
	g.Sign(out.Headers, id, at, out.Body)
	for _, d := range [...]engine.Header{{Name: "Content-Type", Value: out.ContentType}, {Name: "User-Agent", Value: userAgent}, {Name: "Accept", Value: "*/*"}} {
		if d.Value != "" && !engine.HasHeader(out.Headers, d.Name) {
			out.Headers[d.Name] = []string{d.Value}
		}
	}
}

// IsPlain reports whether the body of a stored attempt was not stored, because RenderPlain can make
// it again.
func IsPlain(a *engine.Attempt) bool { return a.Request.Plain != "" && a.Request.Method != "" }

// RenderPlain returns the body of an attempt that IsPlain.
func RenderPlain(a *engine.Attempt, ev *engine.Event) []byte {
	body := PlainBody(a.Request.Plain, ev)
	if a.Batch > 0 && a.Request.Plain == engine.FormatStandard {
		body = WithEventID(body, ev.ID)
	}
	return body
}
