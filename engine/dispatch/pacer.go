package dispatch

import (
	"time"
)

// timerSlack is how late a timer may fire without lowering the rate.
const timerSlack = 2 * time.Millisecond

// pacer spreads attempts evenly: one per interval. (A token bucket of one would lose the delay of
// each timer, and a larger one would let bursts through.)
type pacer struct {
	at       time.Time // the earliest time of the next attempt
	interval time.Duration
}

// advance records an attempt at now.
func (p *pacer) advance(now time.Time, interval time.Duration) {
	if interval <= 0 {
		*p = pacer{}
		return
	}
	p.interval = interval
	if p.at.Before(now.Add(-timerSlack)) || p.at.After(now.Add(p.interval)) { // the latter: the clock was set back
		p.at = now
	}
	p.at = p.at.Add(interval)
}
