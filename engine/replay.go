package engine

import (
	"time"
)

// Replay is a job that sends stored events to a subscription, again or for the first time. It
// processes them oldest first, at a limited rate, however many there are; its progress survives a
// restart.
type Replay struct {
	ID            ID
	Account       string
	Subscriptions []ID         // whose deliveries are replayed
	To            ID           // the subscription to which they are sent instead; 0: to their own
	Since, Until  time.Time    // of events; Since may be zero
	EventTypes    []string     // or patterns; empty: all
	States        []State      // deliveries in these states are sent again
	Missing       bool         // also send events that match the subscription but have no delivery to it: published before it was created or changed
	Filter        string       // expr over the event, in addition to the subscription's own
	Rate          int          // maximum deliveries per second
	Status        ReplayStatus // state of the job
	Error         string       // why it is stalled or failed; empty if a user paused it
	Done          int          // subscriptions that are finished
	After         ID           // progress in the current subscription: events up to this id are finished
	First         ID           // the first event of the current subscription
	Looked        int64        // deliveries and events that were examined
	Queued        int64        // deliveries that were enqueued
	CreatedAt     time.Time
	UpdatedAt     time.Time
	FinishedAt    time.Time // zero until it is finished
	Unreadable    []string  // columns that the store could not decode: the job does not run
}

// MaxReplays is how many replays of an account are stored, beside those that have not finished.
const MaxReplays = 1000

// ReplayStatus is the state of a replay.
type ReplayStatus string

// The statuses of a replay.
const (
	ReplayRunning   ReplayStatus = "running"
	ReplayPaused    ReplayStatus = "paused"
	ReplayCompleted ReplayStatus = "completed"
	ReplayCancelled ReplayStatus = "cancelled"
)

// Finished reports whether the replay has ended for good.
func (s ReplayStatus) Finished() bool { return s == ReplayCompleted || s == ReplayCancelled }

// Progress returns the progress of the replay, 0 to 1, by the time span of its events.
func (r *Replay) Progress() float64 {
	if r.Status == ReplayCompleted || len(r.Subscriptions) == 0 {
		return 1
	}
	part := 0.0
	if span := r.Until.Sub(r.First.Time()); r.First != 0 && r.After > r.First && span > 0 {
		part = min(1, float64(r.After.Time().Sub(r.First.Time()))/float64(span))
	}
	return (float64(r.Done) + part) / float64(len(r.Subscriptions))
}
