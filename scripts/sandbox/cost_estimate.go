package sandbox

import "time"

const (
	lookahead    = 5 * time.Millisecond // CPU time of the jobs a child has, if it has more than one
	costUnknown  = 5 * time.Millisecond // of a compilation, and of a program's runs until one is through
	maxEstimates = 4096
)

// estimate is the CPU time that a program's next run is expected to take: an average in
// which the latest runs count most. The pool's mutex guards it; nil is a compilation's.
type estimate struct {
	cpu time.Duration // 0 while no run is through
}

// estimateOf gives a program's estimate. p.mu is held.
func (p *Pool) estimateOf(hash string) *estimate {
	e := p.estimates[hash]
	if e == nil {
		if len(p.estimates) >= maxEstimates {
			for some := range p.estimates { // any: it is soon learnt again
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

// learn takes a run's CPU time, as a child says that may lie. A single long run, in which
// the child collected its garbage, must not count as much as many: the children would get
// too little at once.
func (e *estimate) learn(took, atMost time.Duration) {
	switch took = min(took, atMost); {
	case e == nil || took <= 0:
	case e.cpu == 0:
		e.cpu = took
	default:
		e.cpu = max(e.cpu+(min(took, 4*e.cpu)-e.cpu)/8, 1)
	}
}
