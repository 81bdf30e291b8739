package catalog

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"switchhook/engine"
	"switchhook/engine/resources"
	"switchhook/engine/retry"
	"switchhook/engine/target"
)

// verificationTimeout limits the response time of a verification request.
const verificationTimeout = 10 * time.Second

// sendVerificationRequest sends one request to the target of s. It reports only whether the target
// has agreed, and to how many attempts a minute (0: no limit): the response of an address must not
// be revealed to everyone who can name it. why is the resource that the router lacked.
func (v *Verifier) sendVerificationRequest(ctx context.Context, s *engine.Subscription) (rate int, ok bool, why *resources.Shortage) {
	u, err := v.cfg.Guard.ParseURL(s.TargetURL)
	if err != nil {
		return 0, false, nil
	}
	ctx, cancel := context.WithTimeout(ctx, verificationTimeout)
	defer cancel()
	req := target.Request{Method: http.MethodOptions, URL: u, Header: make(http.Header, len(s.Headers)+4), Timeout: verificationTimeout}
	for name, value := range s.Headers {
		req.Header[name] = []string{value}
	}
	for _, d := range [...]engine.Header{{Name: "User-Agent", Value: v.cfg.UserAgent}, {Name: "Accept", Value: "*/*"}} {
		if !engine.HasHeader(req.Header, d.Name) {
			req.Header[d.Name] = []string{d.Value}
		}
	}
	req.Header[engine.HopsHeader] = []string{"1"}
	if s.Verification.Mode == engine.VerifyHookSecret {
		prepareHookSecretRequest(&req, s)
	} else {
		req.Header["WebHook-Request-Origin"] = []string{v.cfg.Origin}
		if asked := s.Policy.Rate; asked.Count > 0 && asked.Per > 0 {
			req.Header["WebHook-Request-Rate"] = []string{strconv.Itoa(max(1, int(float64(asked.Count)*float64(time.Minute)/float64(asked.Per))))}
		}
	}
	res, _, err := v.client.Do(ctx, req)
	if err != nil {
		return 0, false, v.resources.ShortageIn(retry.Result{Err: err}, "")
	}
	defer res.Body.Close()
	if res.StatusCode == http.StatusSwitchingProtocols {
		return 0, false, nil
	}
	defer context.AfterFunc(ctx, func() { res.Body.Close() })()
	io.Copy(io.Discard, io.LimitReader(res.Body, engine.MaxReadBody)) // so that the connection can be reused
	if s.Verification.Mode == engine.VerifyHookSecret {
		return 0, retry.Accepted(res.StatusCode) && constantTimeEqual(res.Header.Get(hookSecretHeader), s.Verification.Secret), nil
	}
	rate, ok = parseAllowance(res.Header, v.cfg.Origin)
	return rate, ok, nil
}

// hookSecretHeader carries the secret that the target must echo, as REST Hooks defines it.
const hookSecretHeader = "X-Hook-Secret"

// prepareHookSecretRequest makes req the POST whose secret the target echoes, in the response or by a later call
// to the URL in the body.
func prepareHookSecretRequest(req *target.Request, s *engine.Subscription) {
	id := s.ID.Format(engine.SubscriptionPrefix)
	req.Method = http.MethodPost
	req.Body, _ = json.Marshal(map[string]string{"subscription_id": id, "confirm": "/api/v1/subscriptions/" + id + "/confirm"})
	setHeader(req.Header, hookSecretHeader, s.Verification.Secret)
	setHeader(req.Header, "Content-Type", "application/json")
}

// parseAllowance parses the response to the handshake of "HTTP 1.1 Web Hooks for Event Delivery"
// 1.0: the headers count, whatever the status.
func parseAllowance(answer http.Header, origin string) (rate int, ok bool) {
	if allowed := strings.TrimSpace(answer.Get("WebHook-Allowed-Origin")); allowed != "*" && !strings.EqualFold(allowed, origin) {
		return 0, false
	}
	switch allowed := strings.TrimSpace(answer.Get("WebHook-Allowed-Rate")); allowed {
	case "", "*":
		return 0, true
	default:
		n, err := strconv.ParseInt(allowed, 10, 32)
		return int(n), err == nil && n > 0
	}
}
