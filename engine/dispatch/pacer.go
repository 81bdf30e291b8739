package dispatch

import (
	"time"
)

// timerSlack is how late a timer may be without the rate falling behind.
const timerSlack = 2 * time.Millisecond

// pacer spreads attempts evenly: one, then none for an interval. (A token bucket of one
// would lose what each timer is late, and a larger one would let bursts through.)
type pacer struct {
	at       time.Time // of the next attempt, at the earliest
	interval time.Duration
}

// advance notes an attempt at now.
func (p *pacer) advance(now time.Time, interval time.Duration) {
	if interval <= 0 {
		*p = pacer{}
		return
	}
	p.interval = interval
	if p.at.Before(now.Add(-timerSlack)) || p.at.After(now.Add(p.interval)) { // that is, the clock was set back
		p.at = now
	}
	p.at = p.at.Add(interval)
}
