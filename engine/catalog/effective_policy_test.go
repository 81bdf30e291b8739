package catalog

import (
	"fmt"
	"testing"
	"time"

	"switchhook/engine"
	"switchhook/engine/settings"
)

func TestSubscriptionRegistry_ResolvePolicy(t *testing.T) {
	if span := engine.DefaultRetrySchedule.Span(); span > DefaultGiveUpAfter {
		t.Errorf("the default schedule takes up to %s, more than %s", span, DefaultGiveUpAfter)
	}
	e := &SubscriptionRegistry{core: &core{cfg: settings.Config{Retries: engine.DefaultRetrySchedule, InFlight: 10, SubscriptionInFlight: 16, Timeout: time.Second}}}
	long := engine.RetrySchedule{0, 30 * 24 * time.Hour}
	for _, c := range []struct {
		s    engine.Subscription
		want EffectivePolicy
	}{
		{engine.Subscription{}, EffectivePolicy{Retries: engine.DefaultRetrySchedule, Timeout: time.Second, InFlight: 10, Interval: 0, GiveUpAfter: DefaultGiveUpAfter, ExplicitGiveUpAfter: false}},
		{engine.Subscription{Policy: engine.Policy{Retries: long}}, EffectivePolicy{Retries: long, Timeout: time.Second, InFlight: 10, Interval: 0, GiveUpAfter: 36*24*time.Hour + time.Hour, ExplicitGiveUpAfter: false}},
		{
			engine.Subscription{
				Policy:       engine.Policy{Timeout: time.Minute, InFlight: 3, Rate: engine.Rate{Count: 10, Per: time.Second}, GiveUpAfter: time.Hour},
				Verification: engine.Verification{AllowedRate: 120},
			},
			EffectivePolicy{Retries: engine.DefaultRetrySchedule, Timeout: time.Minute, InFlight: 3, Interval: 500 * time.Millisecond, GiveUpAfter: time.Hour, ExplicitGiveUpAfter: true},
		},
		{engine.Subscription{Policy: engine.Policy{Rate: engine.Rate{Count: 1, Per: time.Second}}, Verification: engine.Verification{AllowedRate: 120}}, EffectivePolicy{Retries: engine.DefaultRetrySchedule, Timeout: time.Second, InFlight: 10, Interval: time.Second, GiveUpAfter: DefaultGiveUpAfter, ExplicitGiveUpAfter: false}},
	} {
		if got := e.resolvePolicy(&c.s); fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("got %v, want %v", got, c.want)
		}
	}
}
