package dispatchqueue

import (
	"slices"

	"switchhook/engine/fifo"
	"switchhook/engine/snowflake"
)

// manualRetries holds the deliveries that a user wants attempted again. They go at once, beside what
// the line sorts, and so do their retries.
type manualRetries struct {
	waiting  fifo.Queue[Entry]
	inFlight map[snowflake.ID]bool // until they are done
}

// add queues a delivery that was asked for, or whose retry is due.
func (h *manualRetries) add(en Entry) {
	if h.inFlight == nil {
		h.inFlight = map[snowflake.ID]bool{}
	}
	h.inFlight[en.Event] = true
	if !slices.ContainsFunc(h.waiting.All(), func(b Entry) bool { return b.Event == en.Event }) { // asked for twice
		h.waiting.Push(en)
	}
}

// open counts what waits, and tells its oldest event; snowflake.Last where there is none.
func (h *manualRetries) open() (n int, oldest snowflake.ID) {
	oldest = snowflake.Last
	for _, en := range h.waiting.All() {
		oldest = min(oldest, en.Event)
	}
	return h.waiting.Len(), oldest
}

// completed takes note of what became of a delivery; false where it is none of these.
func (h *manualRetries) completed(en Entry, fate Disposition) bool {
	if !h.inFlight[en.Event] {
		return false
	}
	switch fate {
	case NotAttempted:
		h.waiting.Push(en)
	case Finished:
		delete(h.inFlight, en.Event)
	}
	return true
}
