package dispatchqueue

import (
	"slices"

	"switchhook/engine/snowflake"
)

// storeTail tracks the deliveries of an ordered queue that are not in memory: they have rows in
// the store and are read from there in the order of their events. Reads run beside the store's
// writer, so storeTail also decides which rows of a read are valid.
//
//	state      fields                        next
//	no tail    tail false                    MarkInStore sets tail, tailStart
//	tail       tail, from tailStart on       FetchStarted if readable
//	reading    reading, from, validUpTo      endRead ends it; shrinkTail moves tailStart or clears tail
//
// A read is not started at or after an event whose row is still on its way (spilling), nor while
// blockedReads > 0. If such a row appears during a read, validUpTo falls to it and the rows from
// there on are discarded and read again. Rows of deliveries whose outcome was recorded during the
// read are stale (changed).
type storeTail struct {
	tail      bool // every delivery from tailStart on that is not in memory is in the store
	tailStart snowflake.ID

	spilling     []snowflake.ID // rows handed to the writer and not on disk yet, ascending
	blockedReads int            // such rows whose event is not known; see BlockReads

	reading   bool
	from      snowflake.ID            // first event of the read
	validUpTo snowflake.ID            // the read may lack rows from this event on
	changed   map[snowflake.ID]change // deliveries that changed during the read
}

// change is what happened to a delivery while rows were being read.
type change int

const (
	outcomeRecorded change = 1 + iota // its outcome was recorded
	retryDue                          // its retry became due
)

// hides reports whether a delivery that is not in memory may be in the tail.
func (t *storeTail) hides(event snowflake.ID) bool { return t.tail && event >= t.tailStart }

// MarkInStore extends the tail to event and everything after it.
func (t *storeTail) MarkInStore(event snowflake.ID) {
	if !t.tail || event < t.tailStart {
		t.tail, t.tailStart = true, event
	}
	t.invalidateFrom(event)
}

// SpillStarted records that the row of a delivery was handed to the store's writer.
func (t *storeTail) SpillStarted(event snowflake.ID) {
	i, _ := slices.BinarySearch(t.spilling, event)
	t.spilling = slices.Insert(t.spilling, i, event)
	t.invalidateFrom(event)
}

// SpillRecorded records that the row of a spilled delivery is on disk.
func (t *storeTail) SpillRecorded(event snowflake.ID) {
	if i, found := slices.BinarySearch(t.spilling, event); found {
		t.spilling = slices.Delete(t.spilling, i, i+1)
	} else if t.blockedReads > 0 {
		t.blockedReads--
	}
}

// invalidateFrom records that the running read may lack the row of event.
func (t *storeTail) invalidateFrom(event snowflake.ID) {
	if t.reading {
		t.validUpTo = min(t.validUpTo, event)
	}
}

// BlockReads blocks reads until rows rows, handed to the writer before this queue was made, are
// on disk.
func (t *storeTail) BlockReads(rows int) { t.blockedReads = rows }

// readable reports whether a read from an event on may start and would return valid rows.
func (t *storeTail) readable(from snowflake.ID) bool {
	return !t.reading && t.blockedReads == 0 && (len(t.spilling) == 0 || from < t.spilling[0])
}

// FetchStarted records that a read of the store begins at from.
func (t *storeTail) FetchStarted(from snowflake.ID) {
	t.reading, t.from, t.validUpTo = true, from, snowflake.Last
	if len(t.spilling) > 0 {
		t.validUpTo = t.spilling[0]
	}
	clear(t.changed)
}

// OutcomeRecorded records that the outcome of a delivery is on disk.
func (t *storeTail) OutcomeRecorded(event snowflake.ID) { t.recordChange(event, outcomeRecorded) }

// recordChange records what happens to a delivery during a read.
func (t *storeTail) recordChange(event snowflake.ID, what change) {
	if !t.reading {
		return
	}
	if t.changed == nil {
		t.changed = map[snowflake.ID]change{}
	}
	t.changed[event] = what
}

// isStale reports whether the row en is out of date. known are the events whose outcome is not on
// disk yet. If the retry became due during the read, isStale clears en.Failed.
func (t *storeTail) isStale(en *Entry, known map[snowflake.ID]bool) bool {
	switch t.changed[en.Event] {
	case outcomeRecorded:
		return true
	case retryDue:
		en.Failed = false
	}
	return known[en.Event]
}

// endRead ends a read and returns its valid rows. The read is complete up to the event through;
// ended means that the store holds nothing after it.
func (t *storeTail) endRead(rows []Entry, all bool) (valid []Entry, through snowflake.ID, ended bool) {
	t.reading = false
	through = snowflake.Last
	if !all {
		through = t.from - 1
		if len(rows) > 0 {
			through = rows[len(rows)-1].Event
		}
	}
	if through >= t.validUpTo {
		through, all = t.validUpTo-1, false
	}
	for i, en := range rows {
		if en.Event > through {
			return rows[:i], through, all
		}
	}
	return rows, through, all
}

// shrinkTail shortens the tail after a read that is complete up to through.
func (t *storeTail) shrinkTail(through snowflake.ID, ended bool) {
	switch {
	case !t.tail || through < t.tailStart:
	case ended:
		t.tail = false
	default:
		t.tailStart = through + 1
	}
}
