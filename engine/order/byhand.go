package order

import (
	"slices"

	"switchhook/engine/fifo"
	"switchhook/engine/snowflake"
)

// byHand holds the deliveries that a user wants attempted again. They go at once, beside what
// the line sorts, and so do their retries.
type byHand struct {
	waiting fifo.Queue[Entry]
	own     map[snowflake.ID]bool // until they are done
}

// put queues a delivery that was asked for, or whose retry is due.
func (h *byHand) put(en Entry) {
	if h.own == nil {
		h.own = map[snowflake.ID]bool{}
	}
	h.own[en.Event] = true
	if !slices.ContainsFunc(h.waiting.All(), func(b Entry) bool { return b.Event == en.Event }) { // asked for twice
		h.waiting.Push(en)
	}
}

// open counts what waits, and tells its oldest event; snowflake.Last where there is none.
func (h *byHand) open() (n int, oldest snowflake.ID) {
	oldest = snowflake.Last
	for _, en := range h.waiting.All() {
		oldest = min(oldest, en.Event)
	}
	return h.waiting.Len(), oldest
}

// landed takes note of what became of a delivery; false where it is none of these.
func (h *byHand) landed(en Entry, fate Fate) bool {
	if !h.own[en.Event] {
		return false
	}
	switch fate {
	case Returned:
		h.waiting.Push(en)
	case Done:
		delete(h.own, en.Event)
	}
	return true
}
