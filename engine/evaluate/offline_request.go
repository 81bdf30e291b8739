package evaluate

import (
	"net/http"
	"net/url"
	"strings"
	"time"

	"switchhook/engine"
	"switchhook/engine/catalog"
	"switchhook/engine/outbound"
	"switchhook/engine/signature"
	"switchhook/engine/target"
	"switchhook/scripts"
)

// OfflineRequest builds a request without sending it, for use without a router.
type OfflineRequest struct {
	Target    string          // the subscription's URL, which is not checked
	Secret    string          // signing secret; empty: webhook-signature is left out
	UserAgent string          // used unless the transform sets one
	ID        string          // of the event, as in webhook-id
	Event     *scripts.Event  // sent in the standard payload format if there is no Result
	Result    *scripts.Result // of the transform; nil if there is none
	At        time.Time       // of the attempt
}

// Build builds the request as a router does, with its checks. Errors: *scripts.Error if the
// transform's result is not allowed, CodeInvalid with the field "secret".
func (p *OfflineRequest) Build() (*engine.AttemptRequest, error) {
	u, err := target.Parse(p.Target)
	if err != nil {
		return nil, engine.Invalid("target_url", "%v", err)
	}
	s := &engine.Subscription{Secret: p.Secret, PayloadFormat: engine.FormatStandard}
	if s.Secret == "" {
		if s.Secret, err = signature.NewSecret(signature.HMAC); err != nil {
			return nil, err
		}
	}
	g, invalid := catalog.SignerOf(s)
	if invalid != nil {
		return nil, invalid
	}
	out := &outbound.DeliveryRequest{Method: http.MethodPost, TargetURL: u, Headers: http.Header{}}
	if p.Result == nil {
		body := outbound.PlainBody(s.PayloadFormat, &engine.Event{Type: p.Event.Type, Time: p.Event.Time, Data: p.Event.Data})
		out.SetContent(&outbound.Payload{Body: body, MediaType: "application/json"})
	} else if err := out.SetResult(p.Result); err != nil {
		return nil, err
	}
	out.Headers[engine.HopsHeader] = []string{"1"}
	out.Sign(g, p.ID, p.At, p.UserAgent)
	if p.Secret == "" {
		delete(out.Headers, signature.Header)
	}
	req := &engine.AttemptRequest{Method: out.Method, URL: out.TargetURL.String(), Body: out.Body}
	for name, values := range out.Headers {
		req.Headers = append(req.Headers, engine.Header{Name: name, Value: strings.Join(values, ", ")})
	}
	return req, nil
}

// BuildOfflineRequest returns the request to a target as a transform sees it at first.
func BuildOfflineRequest(target *url.URL) scripts.Request {
	return catalog.RequestOf(&catalog.CompiledSubscription{TargetURL: target, Sub: &engine.Subscription{Headers: map[string]string{}}})
}
