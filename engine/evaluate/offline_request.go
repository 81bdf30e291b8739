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

// OfflineRequest is a request that nobody sends, for who has no router at hand.
type OfflineRequest struct {
	Target    string          // the subscription's URL, which is not checked
	Secret    string          // signing secret; empty: webhook-signature is left out
	UserAgent string          // where the transform sets none
	ID        string          // of the event, as in webhook-id
	Event     *scripts.Event  // goes in the standard payload format where there is no Result
	Result    *scripts.Result // of the transform; nil if there is none
	At        time.Time       // of the attempt
}

// Build makes the request as a router does, its checks included. Errors: *scripts.Error
// where the transform asks for what it may not, CodeInvalid with the field "secret".
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

// BuildOfflineRequest is what a transform sees of the request to a target before it changes
// anything.
func BuildOfflineRequest(target *url.URL) scripts.Request {
	return catalog.RequestOf(&catalog.CompiledSubscription{TargetURL: target, Sub: &engine.Subscription{Headers: map[string]string{}}})
}
