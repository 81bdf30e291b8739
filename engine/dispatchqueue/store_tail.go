package dispatchqueue

import (
	"slices"

	"switchhook/engine/snowflake"
)

// storeTail is what a line knows of its deliveries that are not in memory: they have rows in
// the store, and are read from there in the order of their events. It also knows which rows
// a read may show as they were, not as they are.
type storeTail struct {
	tail      bool // everything from horizon on that is not in memory lies in the store
	tailStart snowflake.ID

	spilling     []snowflake.ID // rows that were ordered and are not on disk yet, in order
	blockedReads int            // rows of which no more is known than that they were ordered

	reading   bool
	from      snowflake.ID            // where the read began
	validUpTo snowflake.ID            // rows from here on may be missing in it
	changed   map[snowflake.ID]change // what became of deliveries while it was on
}

// change says what happened to a delivery while rows were being read.
type change int

const (
	outcomeRecorded change = 1 + iota // its outcome got on disk
	retryDue                          // its retry became due
)

// hides tells whether a delivery that is not in memory may lie in the tail.
func (b *storeTail) hides(event snowflake.ID) bool { return b.tail && event >= b.tailStart }

// MarkInStore has everything from event on looked up in the store.
func (b *storeTail) MarkInStore(event snowflake.ID) {
	if !b.tail || event < b.tailStart {
		b.tail, b.tailStart = true, event
	}
	b.invalidateFrom(event)
}

// SpillStarted notes that the row of a delivery was ordered.
func (b *storeTail) SpillStarted(event snowflake.ID) {
	i, _ := slices.BinarySearch(b.spilling, event)
	b.spilling = slices.Insert(b.spilling, i, event)
	b.invalidateFrom(event)
}

// SpillRecorded notes that such a row is on disk.
func (b *storeTail) SpillRecorded(event snowflake.ID) {
	if i, found := slices.BinarySearch(b.spilling, event); found {
		b.spilling = slices.Delete(b.spilling, i, i+1)
	} else if b.blockedReads > 0 {
		b.blockedReads--
	}
}

// invalidateFrom says that what is being read may not show event's row.
func (b *storeTail) invalidateFrom(event snowflake.ID) {
	if b.reading {
		b.validUpTo = min(b.validUpTo, event)
	}
}

// BlockReads has reads wait until so many rows that were ordered before are on disk.
func (b *storeTail) BlockReads(rows int) { b.blockedReads = rows }

// readable tells whether a read from an event on would show anything for certain.
func (b *storeTail) readable(from snowflake.ID) bool {
	return !b.reading && b.blockedReads == 0 && (len(b.spilling) == 0 || from < b.spilling[0])
}

// FetchStarted begins a read of the store.
func (b *storeTail) FetchStarted(from snowflake.ID) {
	b.reading, b.from, b.validUpTo = true, from, snowflake.Last
	if len(b.spilling) > 0 {
		b.validUpTo = b.spilling[0]
	}
	clear(b.changed)
}

// OutcomeRecorded notes that the outcome of a delivery is on disk.
func (b *storeTail) OutcomeRecorded(event snowflake.ID) { b.recordChange(event, outcomeRecorded) }

// recordChange keeps in mind what happens to a delivery while a read is on.
func (b *storeTail) recordChange(event snowflake.ID, what change) {
	if !b.reading {
		return
	}
	if b.changed == nil {
		b.changed = map[snowflake.ID]change{}
	}
	b.changed[event] = what
}

// isStale tells whether more is known of a delivery than its row says; known are the events
// whose outcome is not on disk. A retry that became due since is put right in it.
func (b *storeTail) isStale(en *Entry, known map[snowflake.ID]bool) bool {
	switch b.changed[en.Event] {
	case outcomeRecorded:
		return true
	case retryDue:
		en.Failed = false
	}
	return known[en.Event]
}

// isValid ends a read and drops the rows that can't be trusted. through is the last event
// of which the read tells all; ended says that it is the last of all.
func (b *storeTail) isValid(rows []Entry, all bool) (kept []Entry, through snowflake.ID, ended bool) {
	b.reading = false
	through = snowflake.Last
	if !all {
		through = b.from - 1
		if len(rows) > 0 {
			through = rows[len(rows)-1].Event
		}
	}
	if through >= b.validUpTo {
		through, all = b.validUpTo-1, false
	}
	for i, en := range rows {
		if en.Event > through {
			return rows[:i], through, all
		}
	}
	return rows, through, all
}

// read notes how far a read told all.
func (b *storeTail) read(through snowflake.ID, ended bool) {
	switch {
	case !b.tail || through < b.tailStart:
	case ended:
		b.tail = false
	default:
		b.tailStart = through + 1
	}
}
