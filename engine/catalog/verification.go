package catalog

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"time"

	"switchhook/engine"
	"switchhook/engine/resources"
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

// ValidateVerificationMode validates a mode; the field is "verify".
func ValidateVerificationMode(m engine.VerificationMode) (errs engine.FieldErrors) {
	if _, ok := engine.Strictness[m]; !ok {
		errs.Add("verify", engine.FieldUnknown, `%.40q is not known: use "hook-secret", "cloudevents" or ""`, string(m))
	}
	return errs
}

// requiredVerification returns the strictest mode that the subscription, its account or one of its
// event types requires.
func (c *Catalog) requiredVerification(s *engine.Subscription) engine.VerificationMode {
	mode := s.Verification.Mode
	stricter := func(m engine.VerificationMode) {
		if engine.Strictness[m] > engine.Strictness[mode] {
			mode = m
		}
	}
	stricter(c.Account(s.Account).Verify)
	c.registry.mu.RLock()
	defer c.registry.mu.RUnlock()
	for name, t := range c.registry.eventTypes {
		for _, pattern := range s.Events {
			if t.Verify != engine.VerifyNone && engine.MatchesPattern(pattern, name) {
				stricter(t.Verify)
			}
		}
	}
	return mode
}

// planVerification decides whether the target of s, which replaces old unless that is nil, must
// confirm first. If so, s is inactive until then, and ask reports whether a request must be sent.
// s.Active holds the user's choice before the call, and after it if nothing must be confirmed.
func (c *Catalog) planVerification(s, old *engine.Subscription) (ask bool) {
	mode := c.requiredVerification(s)
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
		s.Verification = engine.Verification{Mode: mode, Secret: rand.Text() + rand.Text(), Until: c.life.Now().Add(c.cfg.VerifyWithin)}
		ask = true
	}
	s.Verification.Activate, s.Active, s.Reason = s.Active, false, reasonPendingVerification
	return ask
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
func (c *Catalog) awaitVerification(ctx context.Context, s *engine.Subscription) *engine.Subscription {
	select {
	case <-c.verifyInBackground(s):
	case <-time.After(c.cfg.VerifyWait):
	case <-ctx.Done():
	case <-c.life.Stopping():
	}
	if now := c.registry.subscription("", s.ID); now != nil {
		return now
	}
	return s
}

// verifyInBackground sends the requests in the background; the returned channel is closed once the
// target has confirmed.
func (c *Catalog) verifyInBackground(s *engine.Subscription) <-chan struct{} {
	confirmed := make(chan struct{})
	c.life.Spawn(func() {
		for _, wait := range verificationAttempts {
			select {
			case <-c.life.Stopping():
				return
			case <-time.After(wait):
			}
			rate, ok, open := c.requestVerification(s)
			if !open {
				return
			}
			if !ok {
				continue
			}
			if err := c.confirm(context.Background(), s, rate); err != nil {
				c.log.Error("confirmation not stored", "subscription_id", s.ID.Format(engine.SubscriptionPrefix), "error", err)
				continue
			}
			close(confirmed)
			return
		}
	})
	return confirmed
}

// requestVerification sends a request to the target of s as soon as there is a slot and the router has the
// resources. open is false if the verification is no longer pending, or the router stops.
func (c *Catalog) requestVerification(s *engine.Subscription) (rate int, ok, open bool) {
	for pause := resources.FirstShortWait; ; pause = min(2*pause, resources.MaxShortWait) {
		leave, ok := c.acquireVerificationSlot(s.Account)
		if !ok {
			return 0, false, false
		}
		now := c.pendingVerification(s) // current state
		if now == nil {
			leave()
			return 0, false, false
		}
		rate, ok, why := c.sendVerificationRequest(now)
		leave()
		if why == nil {
			return rate, ok, true
		}
		c.resources.RecordShortage(why)
		if !c.life.Sleep(pause) {
			return 0, false, false
		}
	}
}

// pendingVerification returns the stored state of s if its verification is still pending; otherwise
// nil.
func (c *Catalog) pendingVerification(s *engine.Subscription) *engine.Subscription {
	now := c.registry.subscription("", s.ID)
	if now == nil || !now.Verification.Pending() || !constantTimeEqual(now.Verification.Secret, s.Verification.Secret) || !c.cfg.Now().Before(now.Verification.Until) {
		return nil
	}
	return now
}

// ResumeVerifications repeats the requests to targets that had not confirmed before the restart.
func (c *Catalog) ResumeVerifications() {
	c.registry.mu.RLock()
	defer c.registry.mu.RUnlock()
	for _, s := range c.registry.subscriptions {
		if s.Verification.Pending() {
			c.verifyInBackground(s)
		}
	}
}

// Confirm confirms a subscription on behalf of its target, which proves by the secret that it
// received the request. Errors: CodeNotFound if no subscription with this id waits for this secret;
// CodeBusy after too many attempts.
func (c *Catalog) Confirm(ctx context.Context, id engine.ID, secret string) error {
	if !c.confirmLimiters[uint64(id)*0x9E3779B97F4A7C15>>54].AllowN(c.cfg.Now(), 1) { // spread over the 1024
		return &engine.Error{Code: engine.CodeBusy, Message: "there were too many attempts; try again in a second"}
	}
	s := c.registry.subscription("", id)
	if s == nil || s.Verification.Mode != engine.VerifyHookSecret || c.pendingVerification(s) == nil || !constantTimeEqual(secret, s.Verification.Secret) {
		return &engine.Error{Code: engine.CodeNotFound, Message: "there is no subscription here that waits for this secret"}
	}
	return c.confirm(ctx, s, 0)
}

// constantTimeEqual compares in a time that does not depend on where a and b differ.
func constantTimeEqual(a, b string) bool {
	return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1
}

// confirm records that the target of s wants deliveries, at most rate a minute (0: no limit). It
// does nothing if the verification is no longer pending.
func (c *Catalog) confirm(ctx context.Context, asked *engine.Subscription, rate int) error {
	for {
		old := c.pendingVerification(asked)
		if old == nil {
			return nil
		}
		s := old.Clone()
		s.Active, s.Reason, s.Version, s.UpdatedAt = old.Verification.Activate, "", old.Version+1, c.life.Now()
		s.Verification = engine.Verification{Mode: old.Verification.Mode, ConfirmedAt: s.UpdatedAt, AllowedRate: rate}
		if done, err := c.swapSubscription(ctx, old, s, c.compiledProgram(s.ID)); err != nil || done {
			return err
		}
	}
}
