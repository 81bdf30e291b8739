package engine

import (
	"time"
)

// Replay is a job that sends past events again, or for the first time, to a subscription.
// It goes over them oldest first, at a bounded pace, however many there are; what it has
// done outlives a restart.
type Replay struct {
	ID            ID
	Account       string
	Subscriptions []ID         // whose deliveries are gone over
	To            ID           // the subscription to which they are sent instead; 0: to their own
	Since, Until  time.Time    // of events; Since may be zero
	EventTypes    []string     // or patterns; none: all
	States        []State      // of deliveries that are sent again
	Missing       bool         // as are events that match the subscription and have no delivery to it: from before it was made, or changed
	Filter        string       // expr over the event, besides the subscription's own
	Rate          int          // deliveries a second at most
	Status        ReplayStatus // where the job stands
	Error         string       // why it stands still or failed; empty where a user paused it
	Done          int          // subscriptions that are through
	After         ID           // of the one it is at: events up to here are through
	First         ID           // and where it began
	Looked        int64        // deliveries and events that were looked at
	Queued        int64        // deliveries that were made to wait for an attempt
	CreatedAt     time.Time
	UpdatedAt     time.Time
	FinishedAt    time.Time // zero as long as it is not finished
	Unreadable    []string  // columns that the store could not decode: it does not run
}

// ReplayStatus is where a replay stands.
type ReplayStatus string

// The statuses of a replay.
const (
	ReplayRunning   ReplayStatus = "running"
	ReplayPaused    ReplayStatus = "paused"
	ReplayCompleted ReplayStatus = "completed"
	ReplayCancelled ReplayStatus = "cancelled"
)

// Finished tells whether nothing will follow.
func (s ReplayStatus) Finished() bool { return s == ReplayCompleted || s == ReplayCancelled }

// Progress is how far the replay is, 0 to 1, by the time that its events span.
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
