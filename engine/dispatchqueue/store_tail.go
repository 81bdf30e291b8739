package dispatchqueue

import (
	"slices"

	"switchhook/engine"
)

// storeTail tracks the deliveries of an ordered queue that are not in memory: they have rows in
// the store and are read from there in the order of their positions. Reads run beside the store's
// writer, so storeTail also decides which rows of a read are valid.
//
//	state      fields                        next
//	no tail    tail false                    MarkInStore sets tail, tailStart
//	tail       tail, from tailStart on       StartFetch if readable
//	reading    reading, from, validUpTo      endRead ends it; shrinkTail moves tailStart or clears tail
//
// A read is not started at or after a delivery whose row is still on its way (spills). If such a row
// appears during a read, validUpTo falls to it and the rows from there on are discarded and read again. Rows of deliveries whose outcome was recorded during the
// read are stale (changed).
type storeTail struct {
	tail      bool // every delivery from tailStart on that is not in memory is in the store
	tailStart engine.Position

	spills *spills // of the Queue

	reading   bool
	from      engine.Position      // first of the read
	validUpTo engine.Position      // the read may lack rows from here on
	changed   map[engine.ID]change // deliveries that changed during the read
}

// change is what happened to a delivery while rows were being read.
type change int

const (
	outcomeRecorded change = 1 + iota // its outcome was recorded
	retryDue                          // its retry became due
)

// hides reports whether a delivery that is not in memory may be in the tail.
func (t *storeTail) hides(at engine.Position) bool { return t.tail && at >= t.tailStart }

// MarkInStore extends the tail to a position and everything after it.
func (t *storeTail) MarkInStore(from engine.Position) {
	if !t.tail || from < t.tailStart {
		t.tail, t.tailStart = true, from
	}
	t.invalidateFrom(from)
}

// invalidateFrom records that the running read may lack the row of a delivery.
func (t *storeTail) invalidateFrom(at engine.Position) {
	if t.reading {
		t.validUpTo = min(t.validUpTo, at)
	}
}

// readable reports whether a read from a position on may start and would return valid rows.
func (t *storeTail) readable(from engine.Position) bool {
	return !t.reading && from < t.spills.first()
}

// startRead records that a read of the store begins at from.
func (t *storeTail) startRead(from engine.Position) {
	t.reading, t.from, t.validUpTo = true, from, t.spills.first()
	clear(t.changed)
}

// OutcomeRecorded records that the outcome of a delivery is on disk.
func (t *storeTail) OutcomeRecorded(event engine.ID) { t.recordChange(event, outcomeRecorded) }

// recordChange records what happens to a delivery during a read.
func (t *storeTail) recordChange(event engine.ID, what change) {
	if !t.reading {
		return
	}
	if t.changed == nil {
		t.changed = map[engine.ID]change{}
	}
	t.changed[event] = what
}

// endRead ends a read and returns its rows that are valid and up to date. known are the events whose
// outcome is not on disk yet. The read is complete up to the position through; ended means that the
// store holds nothing after it.
func (t *storeTail) endRead(rows []Entry, all bool, known map[engine.ID]bool) (valid []Entry, through engine.Position, ended bool) {
	t.reading = false
	through = engine.LastPosition
	if !all {
		through = t.from - 1
		if len(rows) > 0 {
			through = rows[len(rows)-1].Position
		}
	}
	if through >= t.validUpTo {
		through, all = t.validUpTo-1, false
	}
	valid = rows[:0]
	for _, en := range rows {
		what := t.changed[en.Event]
		if en.Position > through || what == outcomeRecorded || known[en.Event] {
			en.Release()
			continue
		}
		en.Failed = en.Failed && what != retryDue
		valid = append(valid, en)
	}
	return valid, through, all
}

// rowAction is what FetchCompleted does with a valid row.
type rowAction int

const (
	skipRow      rowAction = iota // its delivery is in memory, or belongs to another read
	stopAtRow                     // memory is full: it and all later rows stay in the store
	leaveRow                      // its group has no room for it
	insertRow                     // it waits in memory
	dueRow                        // it waits in memory for its retry, which is due by the row
	supersedeRow                  // a newer one of its group is known
	failedRow                     // it waits for its retry, and is the newest of its group
)

// shrinkTail shortens the tail after a read that is complete up to through.
func (t *storeTail) shrinkTail(through engine.Position, ended bool) {
	switch {
	case !t.tail || through < t.tailStart:
	case ended:
		t.tail = false
	default:
		t.tailStart = through + 1
	}
}

// spills are the positions of rows handed to the store's writer and not on disk yet, ascending.
type spills []engine.Position

func (s *spills) add(at engine.Position) {
	i, _ := slices.BinarySearch(*s, at)
	*s = slices.Insert(*s, i, at)
}

func (s *spills) remove(at engine.Position) {
	switch i, found := slices.BinarySearch(*s, at); {
	case found && i == 0: // mostly: there may be many
		*s = (*s)[1:]
	case found:
		*s = slices.Delete(*s, i, i+1)
	}
}

// first returns the lowest position, LastPosition if there is none.
func (s *spills) first() engine.Position {
	if len(*s) == 0 {
		return engine.LastPosition
	}
	return (*s)[0]
}
