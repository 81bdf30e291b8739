package dispatchqueue

import (
	"time"

	"switchhook/engine"
	"switchhook/engine/watermark"
)

// Entry is a delivery that waits in memory.
type Entry struct {
	Event       engine.ID
	Position    engine.Position  // its place in the order of the subscription
	Attempts    int              // attempts made so far
	RequestedAt time.Time        // when a user last asked for a retry; zero: never
	Payload     Payload          // the event in memory; nil: it must be read from the store
	Tracked     *watermark.Event // nil: the delivery already has a row
	Slot        int              // index of the subscription in Tracked.Targets
	Group       uint64           // ordering or debounce group
	SpecHash    uint64           // hash of the grouping settings that gave Group; 0: no group
	Failed      bool             // waits for its retry
}

// Payload is an event in memory that several deliveries share.
type Payload interface {
	// Release drops the reference of one delivery.
	Release()
}

// Release drops the delivery's reference to its event in memory.
func (en *Entry) Release() {
	if en.Payload != nil {
		en.Payload.Release()
	}
}

// releaseAll releases rows that were read and do not wait in memory.
func releaseAll(rows []Entry) {
	for i := range rows {
		rows[i].Release()
	}
}

// waitsForRetry returns the entry as it is after a failed attempt.
func (en Entry) waitsForRetry() Entry {
	en.Attempts++
	en.Payload, en.Tracked, en.Failed = nil, nil, true
	return en
}

// Displaced is a delivery that the queue removed from memory: it must wait in the store, or is
// dropped because a newer event supersedes it.
type Displaced struct {
	Entry        Entry
	SupersededBy engine.ID // the newer event; 0: the delivery must wait in the store
}

// Disposition is the result of a delivery that was popped from a queue.
type Disposition int

// The dispositions.
const (
	Finished     Disposition = iota // no further attempt: succeeded, dead or dropped
	Failed                          // its row says when the retry is due
	NotAttempted                    // it goes back to the queue
)

// Batch holds the deliveries of one attempt: one, or several in one POST. The first has a field
// of its own, so that a batch of one needs no allocation.
type Batch struct {
	First Entry
	Rest  []Entry
	Queue OrderedQueue // the ordered queue it was popped from; nil: a plain FIFO

	ResumedAt time.Time // when the subscription was last reactivated
}

// add sets the n-th delivery, counted from 0.
func (b *Batch) add(n int, en Entry) {
	if n == 0 {
		b.First = en
	} else {
		b.Rest = append(b.Rest, en)
	}
}

// Len returns the number of deliveries in the batch.
func (b *Batch) Len() int { return 1 + len(b.Rest) }

// At returns the i-th delivery of the batch.
func (b *Batch) At(i int) *Entry {
	if i == 0 {
		return &b.First
	}
	return &b.Rest[i-1]
}
