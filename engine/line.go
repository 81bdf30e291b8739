package engine

import "time"

// line holds the deliveries of one subscription that wait in memory, and says which may
// go next and in what company. Like the queue that owns it, it is guarded by
// scheduler.mu.
type line struct {
	ring fifo[entry]
}

// parcel is what goes in one attempt: one delivery, or several in one POST. The first
// stands by itself, so that the usual parcel needs no memory of its own.
type parcel struct {
	first entry
	rest  []entry
}

// len is how many deliveries the parcel holds.
func (p *parcel) len() int { return 1 + len(p.rest) }

// at gives the i-th delivery of the parcel.
func (p *parcel) at(i int) *entry {
	if i == 0 {
		return &p.first
	}
	return &p.rest[i-1]
}

// len is how many deliveries wait in memory.
func (l *line) len() int { return l.ring.len() }

// push adds a delivery behind those that wait.
func (l *line) push(en entry) { l.ring.push(en) }

// ready tells whether something may go now.
func (l *line) ready(time.Time) bool { return l.ring.len() > 0 }

// take gives what goes next; ready must have said that there is something.
func (l *line) take(time.Time) parcel { return parcel{first: l.ring.pop()} }

// all lists what waits in memory.
func (l *line) all() []entry { return l.ring.all() }

// cut takes out, from anywhere, what is chosen.
func (l *line) cut(chosen func(*entry) bool) (out []entry) {
	var rest fifo[entry]
	for _, en := range l.ring.all() {
		if chosen(&en) {
			out = append(out, en)
		} else {
			rest.push(en)
		}
	}
	if len(out) > 0 {
		l.ring = rest
	}
	return out
}

// clear forgets what waits in memory.
func (l *line) clear() { l.ring = fifo[entry]{} }
