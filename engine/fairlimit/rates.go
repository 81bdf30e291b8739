package fairlimit

import (
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"
)

// maxRated is the maximum number of accounts whose rates are stored; the ones used least recently
// are dropped.
const maxRated = 10_000

// Rates limits how many operations an account may begin a second.
type Rates struct {
	perSecond float64
	burst     int
	accounts  *lru.Cache[string, *rate.Limiter]
}

// NewRates returns Rates of so many operations a second, and so many at once after a pause.
func NewRates(perSecond float64, burst int) *Rates {
	accounts, _ := lru.New[string, *rate.Limiter](maxRated) // fails for a size of 0 only
	return &Rates{perSecond, burst, accounts}
}

// Take takes n operations of an account's rate, which must not be more than the burst; giveBack returns
// them if they are not made after all. If the rate is used up, nothing is taken, and wait is the time
// until it has as many again.
func (r *Rates) Take(account string, n int, now time.Time) (giveBack func(), wait time.Duration) {
	limiter := rate.NewLimiter(rate.Limit(r.perSecond), r.burst)
	if known, ok, _ := r.accounts.PeekOrAdd(account, limiter); ok {
		limiter = known
	}
	r.accounts.Get(account) // keeps it
	taken := limiter.ReserveN(now, n)
	giveBack = func() { taken.CancelAt(now) }
	if wait = taken.DelayFrom(now); wait > 0 {
		giveBack()
	}
	return giveBack, wait
}

// Len returns the number of accounts whose rates are stored.
func (r *Rates) Len() int { return r.accounts.Len() }
