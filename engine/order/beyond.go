package order

import (
	"slices"

	"switchhook/engine/snowflake"
)

// beyond is what a line knows of its deliveries that are not in memory: they have rows in
// the store, and are read from there in the order of their events. It also knows which rows
// a read may show as they were, not as they are.
type beyond struct {
	tail    bool // everything from horizon on that is not in memory lies in the store
	horizon snowflake.ID

	spilling []snowflake.ID // rows that were ordered and are not on disk yet, in order
	unsure   int            // rows of which no more is known than that they were ordered

	reading bool
	from    snowflake.ID               // where the read began
	trust   snowflake.ID               // rows from here on may be missing in it
	changed map[snowflake.ID]meanwhile // what became of deliveries while it was on
}

// meanwhile says what happened to a delivery while rows were being read.
type meanwhile int

const (
	settledMeanwhile meanwhile = 1 + iota // its outcome got on disk
	dueMeanwhile                          // its retry became due
)

// hides tells whether a delivery that is not in memory may lie in the tail.
func (b *beyond) hides(event snowflake.ID) bool { return b.tail && event >= b.horizon }

// Leave has everything from event on looked up in the store.
func (b *beyond) Leave(event snowflake.ID) {
	if !b.tail || event < b.horizon {
		b.tail, b.horizon = true, event
	}
	b.distrust(event)
}

// Spill notes that the row of a delivery was ordered.
func (b *beyond) Spill(event snowflake.ID) {
	i, _ := slices.BinarySearch(b.spilling, event)
	b.spilling = slices.Insert(b.spilling, i, event)
	b.distrust(event)
}

// Spilled notes that such a row is on disk.
func (b *beyond) Spilled(event snowflake.ID) {
	if i, found := slices.BinarySearch(b.spilling, event); found {
		b.spilling = slices.Delete(b.spilling, i, i+1)
	} else if b.unsure > 0 {
		b.unsure--
	}
}

// distrust says that what is being read may not show event's row.
func (b *beyond) distrust(event snowflake.ID) {
	if b.reading {
		b.trust = min(b.trust, event)
	}
}

// Doubt has reads wait until so many rows that were ordered before are on disk.
func (b *beyond) Doubt(rows int) { b.unsure = rows }

// readable tells whether a read from an event on would show anything for certain.
func (b *beyond) readable(from snowflake.ID) bool {
	return !b.reading && b.unsure == 0 && (len(b.spilling) == 0 || from < b.spilling[0])
}

// Begin begins a read of the store.
func (b *beyond) Begin(from snowflake.ID) {
	b.reading, b.from, b.trust = true, from, snowflake.Last
	if len(b.spilling) > 0 {
		b.trust = b.spilling[0]
	}
	clear(b.changed)
}

// Settled notes that the outcome of a delivery is on disk.
func (b *beyond) Settled(event snowflake.ID) { b.note(event, settledMeanwhile) }

// note keeps in mind what happens to a delivery while a read is on.
func (b *beyond) note(event snowflake.ID, what meanwhile) {
	if !b.reading {
		return
	}
	if b.changed == nil {
		b.changed = map[snowflake.ID]meanwhile{}
	}
	b.changed[event] = what
}

// stale tells whether more is known of a delivery than its row says; known are the events
// whose outcome is not on disk. A retry that became due since is put right in it.
func (b *beyond) stale(en *Entry, known map[snowflake.ID]bool) bool {
	switch b.changed[en.Event] {
	case settledMeanwhile:
		return true
	case dueMeanwhile:
		en.Failed = false
	}
	return known[en.Event]
}

// trusted ends a read and drops the rows that can't be trusted. through is the last event
// of which the read tells all; ended says that it is the last of all.
func (b *beyond) trusted(rows []Entry, all bool) (kept []Entry, through snowflake.ID, ended bool) {
	b.reading = false
	through = snowflake.Last
	if !all {
		through = b.from - 1
		if len(rows) > 0 {
			through = rows[len(rows)-1].Event
		}
	}
	if through >= b.trust {
		through, all = b.trust-1, false
	}
	for i, en := range rows {
		if en.Event > through {
			return rows[:i], through, all
		}
	}
	return rows, through, all
}

// read notes how far a read told all.
func (b *beyond) read(through snowflake.ID, ended bool) {
	switch {
	case !b.tail || through < b.horizon:
	case ended:
		b.tail = false
	default:
		b.horizon = through + 1
	}
}
