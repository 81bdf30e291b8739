package catalog

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"switchhook/engine"
	"switchhook/engine/resources"
	"switchhook/engine/retry"
	"switchhook/engine/target"

	"golang.org/x/sync/semaphore"
)

// verificationTimeout limits the response time of a verification request.
const verificationTimeout = 10 * time.Second

// maxAccountVerifications limits the concurrent requests of one account: targets that don't respond
// must not delay those of other accounts.
const maxAccountVerifications = 4

// acquireSlot waits for a slot for a request of an account, until ctx ends.
func (v *Verifier) acquireSlot(ctx context.Context, account string) (release func(), err error) {
	own, done := v.accountSlots.of(account)
	if err = own.Acquire(ctx, 1); err != nil {
		done()
		return nil, err
	}
	if err = v.slots.Acquire(ctx, 1); err != nil {
		own.Release(1)
		done()
		return nil, err
	}
	return func() { v.slots.Release(1); own.Release(1); done() }, nil
}

// accountSlots holds the slots of accounts with verification requests. An account has slots only
// while a request uses or awaits one.
type accountSlots struct {
	mu        sync.Mutex
	byAccount map[string]*sharedSlots
}

type sharedSlots struct {
	*semaphore.Weighted
	users int
}

// of returns the slots of an account, which exist until done is called.
func (p *accountSlots) of(account string) (own *semaphore.Weighted, done func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.byAccount == nil {
		p.byAccount = map[string]*sharedSlots{}
	}
	shared := p.byAccount[account]
	if shared == nil {
		shared = &sharedSlots{Weighted: semaphore.NewWeighted(maxAccountVerifications)}
		p.byAccount[account] = shared
	}
	shared.users++
	return shared.Weighted, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if shared.users--; shared.users == 0 {
			delete(p.byAccount, account)
		}
	}
}

// len returns the number of accounts that have slots.
func (p *accountSlots) len() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.byAccount)
}

// sendVerificationRequest sends one request to the target of s. It reports only whether the target
// has agreed, and to how many attempts a minute (0: no limit): the response of an address must not
// be revealed to everyone who can name it. why is the resource that the router lacked.
func (v *Verifier) sendVerificationRequest(s *engine.Subscription) (rate int, ok bool, why *resources.Shortage) {
	u, err := v.cfg.Guard.ParseURL(s.TargetURL)
	if err != nil {
		return 0, false, nil
	}
	ctx, cancel := context.WithTimeout(v.life.StopContext(), verificationTimeout)
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
