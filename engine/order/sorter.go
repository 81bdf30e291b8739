package order

import (
	"time"

	"switchhook/engine/snowflake"
)

// Sorter holds deliveries that can't just go one after the other: lanes (ordering) or
// windows (debounce). What it can't keep it gives back, to be set aside.
type Sorter interface {
	// Len is how many deliveries wait in memory.
	Len() int
	// All lists what waits in memory and has no row that says that it failed.
	All() []Entry
	// Open counts that, and tells the oldest event of it.
	Open() (n int, oldest snowflake.ID)
	// Add takes a fresh delivery, or says that it is to wait in the store. crowded says that
	// there is little room in memory.
	Add(en Entry, crowded bool) (stored bool, list []Aside)
	// Due takes a delivery whose retry is due.
	Due(en Entry) []Aside
	// Retry takes one that a user wants attempted again.
	Retry(en Entry) []Aside
	// Look tells whether something may go now, and else when, if that is known.
	Look(now time.Time, b Batch) (ready bool, at time.Time)
	// Take gives what goes next, most deliveries at most; Look must have said that there is
	// something.
	Take(most int) Parcel
	// Landed takes note of what became of what was taken.
	Landed(p *Parcel, became func(i int) Fate) []Aside
	// Withdraw takes out what is chosen, but for what waits for its retry.
	Withdraw(chosen func(*Entry) bool) []Entry

	// Wants tells from which event on the store is to be read, if it is.
	Wants() (from snowflake.ID, ok bool)
	// Begin says that a read from an event on begins.
	Begin(from snowflake.ID)
	// Fetched takes what it gave, in the order of events; all says that there is no more.
	// known are the events whose outcome is not on disk.
	Fetched(rows []Entry, all bool, known map[snowflake.ID]bool) []Aside

	// Leave says that the store may hold anything from an event on.
	Leave(from snowflake.ID)
	// Spill says that the row of a delivery was ordered, Spilled that it is on disk.
	Spill(event snowflake.ID)
	// Spilled is called once for each Spill.
	Spilled(event snowflake.ID)
	// Settled says that the outcome of a delivery is on disk.
	Settled(event snowflake.ID)
	// Doubt has reads wait until so many rows that were ordered before are on disk.
	Doubt(rows int)
}
