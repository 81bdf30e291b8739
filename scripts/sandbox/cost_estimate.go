package sandbox

import "time"

const (
	lookahead    = 5 * time.Millisecond // maximum CPU time of a child's jobs, if it has more than one
	costUnknown  = 5 * time.Millisecond // of a compilation, and of a program's runs until the first one ends
	maxEstimates = 4096
)

// estimate is the expected CPU time of a program's next run: an average weighted towards the
// latest runs. The pool's mutex guards it; the estimate of a compilation is nil.
type estimate struct {
	cpu time.Duration // 0 until a run has ended
}

// estimateOf returns a program's estimate. p.mu must be held.
func (p *Pool) estimateOf(hash string) *estimate {
	e := p.estimates[hash]
	if e == nil {
		if len(p.estimates) >= maxEstimates {
			for some := range p.estimates { // any entry: it is soon learnt again
				delete(p.estimates, some)
				break
			}
		}
		e = &estimate{}
		p.estimates[hash] = e
	}
	return e
}

func (e *estimate) cost() time.Duration {
	if e == nil || e.cpu == 0 {
		return costUnknown
	}
	return e.cpu
}

// learn updates the estimate with a run's CPU time as reported by the child, which may lie.
// A single long run, during which the child collected its garbage, must not count as much as
// many long ones: the children would get too few jobs at once.
func (e *estimate) learn(took, atMost time.Duration) {
	switch took = min(took, atMost); {
	case e == nil || took <= 0:
	case e.cpu == 0:
		e.cpu = took
	default:
		e.cpu = max(e.cpu+(min(took, 4*e.cpu)-e.cpu)/8, 1)
	}
}
