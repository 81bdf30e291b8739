package catalog

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"fmt"
	"slices"
	"sync"
	"time"

	"switchhook/engine"
	"switchhook/engine/fairlimit"
	"switchhook/engine/resources"
	"switchhook/engine/target"
	"switchhook/engine/telemetry"

	"golang.org/x/time/rate"
)

const (
	// confirmBurst and confirmRate limit the attempts to confirm a subscription.
	confirmBurst = 10
	confirmRate  = 1 // a second
	// reasonPendingVerification is the Reason of a subscription whose target has not confirmed yet.
	reasonPendingVerification = "waits for its target to confirm that it wants to be sent events"
)

// verificationAttempts are the delays between the requests to a target, which may start only after
// its subscription was created.
var verificationAttempts = []time.Duration{0, 30 * time.Second, 5 * time.Minute, 20 * time.Minute}

// Verifier asks targets whether they want deliveries, and confirms their subscriptions.
type Verifier struct {
	*core
	eventTypes *EventTypeRegistry
	subs       *SubscriptionRegistry
	client     *target.Client
	resources  *resources.Tracker

	places   *fairlimit.Limiter  // one for each request in flight
	rates    *fairlimit.Rates    // of targets that are asked
	limiters [1024]*rate.Limiter // of Confirm, by subscription id
}

const (
	maxVerifications = 32 // requests in flight
	// maxAccountVerifications limits those of one account: targets that don't respond must not delay
	// those of other accounts.
	maxAccountVerifications = 4
	// verificationRate and verificationBurst limit how many targets an account may have asked: a
	// request goes to any URL that the account names.
	verificationRate  = 1 // a second
	verificationBurst = 10
	// verificationWait is how long a request waits for others: as long as its subscription may wait.
	verificationWait = 24 * time.Hour
)

func newVerifier(core *core, eventTypes *EventTypeRegistry, subs *SubscriptionRegistry, p Parts) *Verifier {
	v := &Verifier{
		core: core, eventTypes: eventTypes, subs: subs, client: p.Client, resources: p.Resources,
		places: fairlimit.New(fairlimit.Limits{Units: maxVerifications, PerAccount: maxAccountVerifications, Wait: verificationWait}),
		rates:  fairlimit.NewRates(verificationRate, verificationBurst),
	}
	core.cfg.Registerer.MustRegister(telemetry.NewPlacesCollector("verifications", v.places))
	for i := range v.limiters {
		v.limiters[i] = rate.NewLimiter(confirmRate, confirmBurst)
	}
	return v
}

// ValidateVerificationMode validates a mode; the field is "verify".
func ValidateVerificationMode(m engine.VerificationMode) (errs engine.FieldErrors) {
	if _, ok := engine.Strictness[m]; !ok {
		errs.Add("verify", engine.FieldUnknown, `%.40q is not known: use "hook-secret", "cloudevents" or ""`, string(m))
	}
	return errs
}

// requiredVerification returns the strictest mode that the subscription, its account or one of its
// event types requires.
func (v *Verifier) requiredVerification(s *engine.Subscription) engine.VerificationMode {
	mode := s.Verification.Mode
	stricter := func(m engine.VerificationMode) {
		if engine.Strictness[m] > engine.Strictness[mode] {
			mode = m
		}
	}
	stricter(v.accounts.Account(s.Account).Verify)
	for _, t := range v.eventTypes.find(func(t *registeredEventType) bool { return t.Verify != engine.VerifyNone }) {
		if slices.ContainsFunc(s.Events, func(pattern string) bool { return engine.MatchesPattern(pattern, t.Name) }) {
			stricter(t.Verify)
		}
	}
	return mode
}

// planVerification decides whether the target of s, which replaces old unless that is nil, must
// confirm first. If so, s is inactive until then, and ask reports whether a request must be sent.
// s.Active holds the user's choice before the call, and after it if nothing must be confirmed.
func (v *Verifier) planVerification(s, old *engine.Subscription) (ask bool) {
	mode := v.requiredVerification(s)
	switch {
	case mode == engine.VerifyNone || s.Inline:
		if s.Verification = (engine.Verification{}); s.Reason == reasonPendingVerification {
			s.Reason = ""
		}
		return false
	case old != nil && old.TargetURL == s.TargetURL && old.Verification.Mode == mode:
		if s.Verification = old.Verification; !s.Verification.Pending() {
			return false
		}
	default:
		s.Verification = engine.Verification{Mode: mode, Secret: rand.Text() + rand.Text(), Until: v.life.Now().Add(v.cfg.VerifyWithin)}
		ask = true
	}
	s.Verification.Activate, s.Active, s.Reason = s.Active, false, reasonPendingVerification
	return ask
}

// reserve takes a request to a target from the account's rate; giveBack returns it if none is made.
// Error: CodeBusy.
func (v *Verifier) reserve(account string, ask bool) (giveBack func(), err error) {
	if !ask {
		return func() {}, nil
	}
	giveBack, wait := v.rates.Take(account, 1, v.cfg.Now())
	if wait > 0 {
		return nil, &engine.Error{Code: engine.CodeBusy, Wait: wait, Message: fmt.Sprintf("this account has had too many targets asked whether they want deliveries (%d at once, then %d a second); try again then", verificationBurst, verificationRate)}
	}
	return giveBack, nil
}

// restoreDesiredActive sets Active of s, for a change, as its user wants it: even if it waits for
// its target.
func restoreDesiredActive(s *engine.Subscription) {
	if s.Verification.Pending() && s.Verification.Activate {
		s.Active = true
	}
}

// awaitVerification starts the verification requests to the target of s and returns the
// subscription as it is a moment later. A target that confirms within that moment has made it
// active. The length of the moment does not depend on any other response of the target, or its
// absence: it must not reveal other people's hosts.
func (v *Verifier) awaitVerification(ctx context.Context, s *engine.Subscription) *engine.Subscription {
	select {
	case <-v.verifyInBackground(s):
	case <-time.After(v.cfg.VerifyWait):
	case <-ctx.Done():
	case <-v.life.Stopping():
	}
	if now := v.subs.Lookup(s.ID); now != nil {
		return now
	}
	return s
}

// verifyInBackground sends the requests in the background, until the subscription waits for another
// secret or none; the returned channel is closed once the target has confirmed.
func (v *Verifier) verifyInBackground(s *engine.Subscription) <-chan struct{} {
	confirmed := make(chan struct{})
	ctx, done := v.subs.verifications.begin(v.life.StopContext(), s, func() bool { return v.pendingVerification(s) != nil })
	v.life.Spawn(func() {
		defer done()
		for _, wait := range verificationAttempts {
			if !sleep(ctx, wait) {
				return
			}
			rate, ok, open := v.requestVerification(ctx, s)
			if !open {
				return
			}
			if !ok {
				continue
			}
			if err := v.confirm(context.Background(), s, rate); err != nil {
				v.log.Error("confirmation not stored", "subscription_id", s.ID.Format(engine.SubscriptionPrefix), "error", err)
				continue
			}
			close(confirmed)
			return
		}
	})
	return confirmed
}

// requestVerification sends a request to the target of s as soon as there is a place and the router has the
// resources. open is false if the verification is no longer pending, or the router stops.
func (v *Verifier) requestVerification(ctx context.Context, s *engine.Subscription) (rate int, ok, open bool) {
	for pause := resources.FirstShortWait; ; pause = min(2*pause, resources.MaxShortWait) {
		rate, ok, open, why := v.requestOnce(ctx, s)
		if why == nil {
			return rate, ok, open
		}
		v.resources.RecordShortage(why)
		if !sleep(ctx, pause) {
			return 0, false, false
		}
	}
}

// requestOnce waits for a place and sends a request; why is the resource that the router lacked.
func (v *Verifier) requestOnce(ctx context.Context, s *engine.Subscription) (rate int, ok, open bool, why *resources.Shortage) {
	release, err := v.places.Acquire(ctx, s.Account, "", 1)
	if err != nil {
		return 0, false, false, nil
	}
	defer release()
	now := v.pendingVerification(s) // current state
	if now == nil {
		return 0, false, false, nil
	}
	rate, ok, why = v.sendVerificationRequest(ctx, now)
	return rate, ok, true, why
}

// pendingVerification returns the stored state of s if its verification is still pending; otherwise
// nil.
func (v *Verifier) pendingVerification(s *engine.Subscription) *engine.Subscription {
	now := v.subs.Lookup(s.ID)
	if now == nil || !now.Verification.Pending() || !constantTimeEqual(now.Verification.Secret, s.Verification.Secret) || !v.cfg.Now().Before(now.Verification.Until) {
		return nil
	}
	return now
}

// ResumeVerifications repeats the requests to targets that had not confirmed before the restart.
func (v *Verifier) ResumeVerifications() {
	for _, r := range v.subs.table.find(func(r *CompiledSubscription) bool { return r.Sub.Verification.Pending() }) {
		v.verifyInBackground(r.Sub)
	}
}

// Confirm confirms a subscription on behalf of its target, which proves by the secret that it
// received the request. Errors: CodeNotFound if no subscription with this id waits for this secret;
// CodeBusy after too many attempts.
func (v *Verifier) Confirm(ctx context.Context, id engine.ID, secret string) error {
	if !v.limiters[uint64(id)*0x9E3779B97F4A7C15>>54].AllowN(v.cfg.Now(), 1) { // spread over the 1024
		return &engine.Error{Code: engine.CodeBusy, Message: "there were too many attempts; try again in a second"}
	}
	s := v.subs.Lookup(id)
	if s == nil || s.Verification.Mode != engine.VerifyHookSecret || v.pendingVerification(s) == nil || !constantTimeEqual(secret, s.Verification.Secret) {
		return &engine.Error{Code: engine.CodeNotFound, Message: "there is no subscription here that waits for this secret"}
	}
	return v.confirm(ctx, s, 0)
}

// constantTimeEqual compares in a time that does not depend on where a and b differ.
func constantTimeEqual(a, b string) bool {
	return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1
}

// confirm records that the target of s wants deliveries, at most rate a minute (0: no limit). It
// does nothing if the verification is no longer pending.
func (v *Verifier) confirm(ctx context.Context, asked *engine.Subscription, rate int) error {
	_, err := v.subs.modify(ctx, asked.ID, func(s *engine.Subscription) bool {
		if v.pendingVerification(asked) == nil {
			return false
		}
		s.Active, s.Reason, s.UpdatedAt = s.Verification.Activate, "", v.life.Now()
		s.Verification = engine.Verification{Mode: s.Verification.Mode, ConfirmedAt: s.UpdatedAt, AllowedRate: rate}
		return true
	})
	return err
}

// runningVerifications are the verifications whose requests are being sent, by subscription.
type runningVerifications struct {
	mu   sync.Mutex
	byID map[engine.ID]*runningVerification
}

type runningVerification struct {
	secret string // see engine.Verification.Secret
	cancel context.CancelFunc
}

// begin returns a context that ends with parent, by done, or by end; it has ended already if s was
// changed since, so that pending reports false.
func (l *runningVerifications) begin(parent context.Context, s *engine.Subscription, pending func() bool) (_ context.Context, done func()) {
	ctx, cancel := context.WithCancel(parent)
	own := &runningVerification{s.Verification.Secret, cancel}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !pending() {
		cancel()
		return ctx, cancel
	}
	if older := l.byID[s.ID]; older != nil {
		older.cancel()
	}
	if l.byID == nil {
		l.byID = map[engine.ID]*runningVerification{}
	}
	l.byID[s.ID] = own
	return ctx, func() {
		cancel()
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.byID[s.ID] == own {
			delete(l.byID, s.ID)
		}
	}
}

// end ends the verification of a subscription, unless that waits for this secret.
func (l *runningVerifications) end(id engine.ID, secret string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if running := l.byID[id]; running != nil && running.secret != secret {
		running.cancel()
		delete(l.byID, id)
	}
}

// len returns the number of verifications whose requests are being sent.
func (l *runningVerifications) len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.byID)
}

// sleep waits and reports whether ctx has not ended.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return ctx.Err() == nil
	}
}
