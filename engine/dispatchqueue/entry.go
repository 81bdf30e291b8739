package dispatchqueue

import (
	"time"

	"switchhook/engine/snowflake"
	"switchhook/engine/watermark"
)

// Entry is a delivery that waits in memory.
type Entry struct {
	Event       snowflake.ID
	Attempts    int              // made before
	RequestedAt time.Time        // when a user had it attempted again; zero: never
	Payload     Payload          // its event; nil: that is to be read from the store
	Tracked     *watermark.Event // nil: the delivery has a row already
	Slot        int              // of the subscription in Fresh.Targets
	Group       uint64           // in which it stands: lines that sort keep groups apart
	SpecHash    uint64           // of the settings that Group follows; 0: it has no group
	Failed      bool             // waits for its retry
}

// Payload keeps an event in memory for its deliveries.
type Payload interface {
	// Release says that one of them needs it no more.
	Release()
}

// Release says that the delivery needs its event in memory no more.
func (en *Entry) Release() {
	if en.Payload != nil {
		en.Payload.Release()
	}
}

// waitsForRetry is the delivery after an attempt that failed.
func (en Entry) waitsForRetry() Entry {
	en.Attempts++
	en.Payload, en.Tracked, en.Failed = nil, nil, true
	return en
}

// Displaced is a delivery that a line could not keep: it is to wait in the store, or to be
// dropped because a newer event took its place.
type Displaced struct {
	Entry        Entry
	SupersededBy snowflake.ID // the newer event; 0: it is to wait in the store
}

// Disposition is what became of a delivery that was taken from a line.
type Disposition int

// The fates.
const (
	Finished     Disposition = iota // nothing more is to be done
	Failed                          // it is to be tried again later, by its row
	NotAttempted                    // it was not attempted
)

// Batch is what goes in one attempt: one delivery, or several in one POST. The first
// stands by itself, so that the usual parcel needs no memory of its own.
type Batch struct {
	First Entry
	Rest  []Entry
	Queue OrderedQueue // that it was taken from; nil: from a line that does not sort

	ResumedAt time.Time // when the subscription was last switched on again
}

// add puts in the n-th delivery.
func (p *Batch) add(n int, en Entry) {
	if n == 0 {
		p.First = en
	} else {
		p.Rest = append(p.Rest, en)
	}
}

// Len is how many deliveries the parcel holds.
func (p *Batch) Len() int { return 1 + len(p.Rest) }

// At gives the i-th delivery of the parcel.
func (p *Batch) At(i int) *Entry {
	if i == 0 {
		return &p.First
	}
	return &p.Rest[i-1]
}
