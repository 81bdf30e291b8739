package catalog

import (
	"time"

	"switchhook/engine"
)

// The limits of a policy.
const (
	maxRetries     = 50
	maxRetryWait   = 30 * 24 * time.Hour
	minTimeout     = 100 * time.Millisecond
	maxTimeout     = time.Minute
	maxInFlight    = 512
	maxRateCount   = 100_000
	minRatePer     = time.Second
	maxRatePer     = time.Hour
	minGiveUpAfter = time.Second
	maxGiveUpAfter = 30 * 24 * time.Hour
)

// EffectivePolicy is a subscription's policy with the router's defaults filled in.
type EffectivePolicy struct {
	Retries             engine.RetrySchedule
	Timeout             time.Duration
	InFlight            int
	Interval            time.Duration // minimum time between two attempts; 0: none
	GiveUpAfter         time.Duration
	ExplicitGiveUpAfter bool // GiveUpAfter is the user's: it also runs while the subscription is inactive
}

// DefaultGiveUpAfter is the default maximum age of a delivery: the default schedule with jitter
// fits in, with some hours to spare for a target that asks for more time. A longer schedule is
// never cut short.
const DefaultGiveUpAfter = 4 * 24 * time.Hour

// resolvePolicy returns the policy of a subscription with the router's defaults filled in.
func (reg *SubscriptionRegistry) resolvePolicy(s *engine.Subscription) EffectivePolicy {
	t := EffectivePolicy{
		Retries: s.Policy.Retries, Timeout: s.Policy.Timeout, InFlight: s.Policy.InFlight,
		Interval: s.Policy.Rate.Interval(), GiveUpAfter: s.Policy.GiveUpAfter, ExplicitGiveUpAfter: s.Policy.GiveUpAfter != 0,
	}
	if t.Retries == nil {
		t.Retries = reg.cfg.Retries
	}
	if t.Timeout == 0 {
		t.Timeout = reg.cfg.Timeout
	}
	if t.InFlight == 0 {
		t.InFlight = reg.cfg.SubscriptionInFlight
	}
	t.InFlight = min(t.InFlight, reg.cfg.InFlight)
	if allowed := s.Verification.AllowedRate; allowed > 0 {
		t.Interval = max(t.Interval, engine.Rate{Count: allowed, Per: time.Minute}.Interval())
	}
	if t.GiveUpAfter == 0 {
		t.GiveUpAfter = max(DefaultGiveUpAfter, t.Retries.Span()+time.Hour)
	}
	return t
}
