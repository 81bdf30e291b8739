package dispatchqueue

import (
	"slices"

	"switchhook/engine"
	"switchhook/engine/fifo"
	"switchhook/engine/snowflake"
)

// manualRetries holds the deliveries that a user retries. They, and the scheduled retries that
// follow, are attempted at once, outside the order of the queue.
type manualRetries struct {
	waiting  fifo.Queue[Entry]
	inFlight map[engine.ID]bool // events from the user's retry until they are finished
}

// add queues a delivery that a user retries, or whose retry is due.
func (m *manualRetries) add(en Entry) {
	if m.inFlight == nil {
		m.inFlight = map[engine.ID]bool{}
	}
	m.inFlight[en.Event] = true
	if !slices.ContainsFunc(m.waiting.All(), func(b Entry) bool { return b.Event == en.Event }) { // else: requested twice
		m.waiting.Push(en)
	}
}

// open returns the number of waiting deliveries and their oldest event, snowflake.Last if none.
func (m *manualRetries) open() (n int, oldest engine.ID) {
	oldest = snowflake.Last
	for _, en := range m.waiting.All() {
		oldest = min(oldest, en.Event)
	}
	return m.waiting.Len(), oldest
}

// completed records the disposition of a delivery; false if it is not a manual retry.
func (m *manualRetries) completed(en Entry, d Disposition) bool {
	if !m.inFlight[en.Event] {
		return false
	}
	switch d {
	case NotAttempted:
		m.waiting.Push(en)
	case Finished:
		delete(m.inFlight, en.Event)
	}
	return true
}
