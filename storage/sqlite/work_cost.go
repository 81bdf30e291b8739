package sqlite

import (
	"sync/atomic"
	"time"
)

// workCost is the measured time of the writer for one unit of some work, so that a step can be as
// large as fits in a given time. It differs between disks and with the size of the database, and
// begins with usualCost.
type workCost struct{ nanoseconds atomic.Int64 }

const (
	usualCost             = 5 * time.Microsecond
	leastUnits, mostUnits = 20, 20_000
	// A unit is about the cost of the row of a delivery or an attempt; that of an event has indexes,
	// and the pages of its data are freed one by one.
	eventUnits = 2
	unitBytes  = 2560
)

// affordable returns how many units fit in a time.
func (c *workCost) affordable(work time.Duration) int64 {
	cost := c.nanoseconds.Load()
	if cost == 0 {
		cost = int64(usualCost)
	}
	return min(max(int64(work)/cost, leastUnits), mostUnits)
}

// observe reports how long a number of units took.
func (c *workCost) observe(units int64, took time.Duration) {
	if units < leastUnits/2 { // mostly the fixed costs of a step
		return
	}
	before := c.nanoseconds.Load()
	if before == 0 {
		before = int64(usualCost)
	}
	// A step that waited for the disk is no reason for small steps for long, nor a quick one for a
	// large one at once.
	now := min(max(int64(took)/units, before/2), before*2)
	c.nanoseconds.Store(max((3*before+now)/4, 100))
}

// costOf is the cost of removing an event.
func costOf(e *examinedEvent) int64 { return eventUnits + e.rows + e.bytes.stored().Total()/unitBytes }
