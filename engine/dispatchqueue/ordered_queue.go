package dispatchqueue

import (
	"time"

	"switchhook/engine/snowflake"
)

// OrderedQueue holds deliveries that can't just go one after the other: lanes (ordering) or
// windows (debounce). What it can't keep it gives back, to be set aside.
type OrderedQueue interface {
	// Len is how many deliveries wait in memory.
	Len() int
	// All lists what waits in memory and has no row that says that it failed.
	All() []Entry
	// Open counts that, and tells the oldest event of it.
	Open() (n int, oldest snowflake.ID)
	// Add takes a fresh delivery, or says that it is to wait in the store. crowded says that
	// there is little room in memory.
	Enqueue(en Entry, crowded bool) (stored bool, list []Displaced)
	// Due takes a delivery whose retry is due.
	EnqueueDue(en Entry) []Displaced
	// Retry takes one that a user wants attempted again.
	EnqueueManual(en Entry) []Displaced
	// Look tells whether something may go now, and else when, if that is known.
	Ready(now time.Time, b BatchLimit) (ready bool, at time.Time)
	// Take gives what goes next, most deliveries at most; Look must have said that there is
	// something.
	Pop(most int) Batch
	// Landed takes note of what became of what was taken.
	Completed(p *Batch, became func(i int) Disposition) []Displaced
	// Withdraw takes out what is chosen, but for what waits for its retry.
	Remove(chosen func(*Entry) bool) []Entry

	// Wants tells from which event on the store is to be read, if it is.
	NextFetch() (from snowflake.ID, ok bool)
	// Begin says that a read from an event on begins.
	FetchStarted(from snowflake.ID)
	// Fetched takes what it gave, in the order of events; all says that there is no more.
	// known are the events whose outcome is not on disk.
	FetchCompleted(rows []Entry, all bool, known map[snowflake.ID]bool) []Displaced

	// Leave says that the store may hold anything from an event on.
	MarkInStore(from snowflake.ID)
	// Spill says that the row of a delivery was ordered, Spilled that it is on disk.
	SpillStarted(event snowflake.ID)
	// Spilled is called once for each Spill.
	SpillRecorded(event snowflake.ID)
	// Settled says that the outcome of a delivery is on disk.
	OutcomeRecorded(event snowflake.ID)
	// Doubt has reads wait until so many rows that were ordered before are on disk.
	BlockReads(rows int)
}
