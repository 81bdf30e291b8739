package router

import (
	"net/http"
	"net/url"
	"strings"
	"time"

	"switchhook/engine"
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
	Result    *scripts.Result // of the transform; nil where there is none
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
	g, invalid := signerOf(s)
	if invalid != nil {
		return nil, invalid
	}
	out := &deliveryRequest{method: http.MethodPost, targetURL: u, headers: http.Header{}}
	if p.Result == nil {
		body := plainBody(s.PayloadFormat, &engine.Event{Type: p.Event.Type, Time: p.Event.Time, Data: p.Event.Data})
		out.setContent(&payload{body: body, mediaType: "application/json"})
	} else if err := out.setResult(p.Result); err != nil {
		return nil, err
	}
	out.sign(g, p.ID, p.At, p.UserAgent)
	if p.Secret == "" {
		delete(out.headers, signature.Header)
	}
	req := &engine.AttemptRequest{Method: out.method, URL: out.targetURL.String(), Body: out.body}
	for name, values := range out.headers {
		req.Headers = append(req.Headers, engine.Header{Name: name, Value: strings.Join(values, ", ")})
	}
	return req, nil
}

// BuildOfflineRequest is what a transform sees of the request to a target before it changes
// anything.
func BuildOfflineRequest(target *url.URL) scripts.Request {
	return requestOf(&compiledSubscription{targetURL: target, sub: &engine.Subscription{Headers: map[string]string{}}})
}
