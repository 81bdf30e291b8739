package engine

import (
	"context"
	"time"
)

// Store keeps everything that must outlive the process. It speaks in batches: what many
// callers hand in at the same time becomes durable in one commit. All methods may be
// called by many goroutines; errors that a user can do something about are *Error.
//
// Every query takes the account whose things it may see; an empty account sees all.
// A row that can't be decoded in full is no reason for a list to fail: it is given with what
// can be, and says in Unreadable what can't. Who asks for it alone gets a CodeUnreadable.
//
// The suite in storage/storetest says in code what each method promises.
type Store interface {
	EventLog
	DeliveryLog
	ReplayLog
	Catalogue
	AuditLog
	RequestLog
	Housekeeping
	// Ping answers whether the store can be written.
	Ping(ctx context.Context) error
	// Close ends all work; what was accepted before is on disk when it returns.
	Close() error
}

// NewEvent is an event on its way into the store.
type NewEvent struct {
	Event  *Event
	Keys   []KeyHash // idempotency keys that lead to it from now on
	Names  []KeyHash // keys that lead to it, too, unless they lead to another event already; they make no repeat
	Digest KeyHash   // its content, to tell a repeat from a contradiction
	// Numbered are the places in Event.Targets of the subscriptions whose deliveries carry a
	// number; nil where there are none.
	Numbered []int
}

// Appended says what became of a NewEvent.
type Appended struct {
	ID       ID  // the event's, or the id of the one that was stored before under the same key
	Matched  int // how many subscriptions that event matched when it was accepted
	Repeated bool
	// Sequences are the numbers that the event got, see Event.Sequences; nil for a repeat.
	Sequences []int64
}

// EventLog keeps events.
type EventLog interface {
	// Append stores events, all or none, and returns once they are on disk. A key that
	// is known under the same digest is a repeat: that event is not stored again and
	// answered with the first one. Under another digest it is a CodeConflict with Field
	// "events[i]", and nothing is stored. Repeats within one call count as well.
	//
	// Each event that is stored gets the next number of each subscription that is numbered
	// there: 1, 2, 3 and so on in the order in which they are committed, without a gap.
	Append(ctx context.Context, events []NewEvent) ([]Appended, error)
	// Event finds an event.
	Event(ctx context.Context, account string, id ID) (*Event, error)
	// EventByKey finds the event that Append stored under an idempotency key.
	EventByKey(ctx context.Context, key KeyHash) (ID, error)
	// Events lists events, newest first, or oldest first where q says so.
	Events(ctx context.Context, q EventQuery) ([]*Event, error)
	// StoredBytes is how many bytes the data of an account's stored events has.
	StoredBytes(ctx context.Context, account string) (int64, error)
	// LastEventID is the highest event id stored, 0 in a new store.
	LastEventID(ctx context.Context) (ID, error)
}

// EventQuery picks events. Zero fields don't restrict.
type EventQuery struct {
	Account string
	Type    string
	Since   ID   // this id and above
	Before  ID   // below this id; the cursor of the next page
	Oldest  bool // oldest first
	Limit   int
}

// Outcome is a change of one delivery's row. The row is made where there is none.
type Outcome struct {
	ID       DeliveryID
	State    State
	Attempts int
	NextAt   time.Time
	// RenewedAt says that the delivery was asked for again, and is to be attempted whatever
	// its row says: give_up_after runs from there. Zero leaves what is stored.
	RenewedAt time.Time
	Error     string
	Attempt   *Attempt // nil where none was made: a delivery that only waits, or is given up
}

// Waiting is a delivery that is to be attempted.
type Waiting struct {
	ID        DeliveryID
	Attempts  int       // how many were made before
	RenewedAt time.Time // see Outcome
	Failed    bool      // it is not due yet; only Outstanding lists such
}

// DeliveryLog keeps deliveries and their attempts. A delivery has no row before its first
// outcome: it is pending because its event names the subscription among its targets.
type DeliveryLog interface {
	// Record hands an outcome to the next commit and returns at once, or when the queue
	// has room. done is called, from the store's goroutine, when it is on disk or could
	// not be written; it must not block. An outcome with RenewedAt whose event was removed
	// is a CodeNotFound, and leaves nothing.
	Record(o *Outcome, done func(error))
	// TakeDue turns up to limit failed deliveries whose NextAt has come into pending
	// ones and returns them, the longest due first. Before any other call can find them
	// pending, taken gets them, from the store's goroutine; it must not block. It may be
	// called again, or in vain where there is an error.
	TakeDue(ctx context.Context, now time.Time, limit int, taken func([]Waiting)) ([]Waiting, error)
	// NextDue is when the next failed delivery is due; the zero time where none waits.
	NextDue(ctx context.Context) (time.Time, error)
	// Backlog lists up to limit pending deliveries of a subscription that have a row,
	// oldest event first.
	Backlog(ctx context.Context, subscription ID, limit int) ([]Waiting, error)
	// Outstanding lists up to limit deliveries of a subscription that have a row and wait,
	// pending or failed, of events from an id on, oldest event first.
	Outstanding(ctx context.Context, subscription, from ID, limit int) ([]Waiting, error)
	// BacklogSubscriptions lists the subscriptions that have pending deliveries with a row.
	BacklogSubscriptions(ctx context.Context) ([]ID, error)
	// Unfinished lists, oldest first, up to limit events after an id that have targets
	// without a row; their Targets are only those, and their Data is not loaded.
	Unfinished(ctx context.Context, after ID, limit int) ([]*Event, error)
	// Watermark is the id set last, 0 in a new store: no event at or below it has targets
	// without a row.
	Watermark(ctx context.Context) (ID, error)
	// SetWatermark raises the watermark with the next commit.
	SetWatermark(id ID)
	// GiveUp turns the deliveries of a subscription that wait (pending with a row, or
	// failed) into dead ones.
	GiveUp(ctx context.Context, subscription ID, reason string) error
	// CountDeliveries counts the deliveries with a row in a state other than succeeded, up
	// to limit, and gives the oldest one's event: 0 where there is none. It must be cheap
	// however many deliveries there are.
	CountDeliveries(ctx context.Context, state State, limit int) (n int, oldest ID, err error)
	// Delivery finds a delivery, with or without a row.
	Delivery(ctx context.Context, account string, id DeliveryID) (*Delivery, error)
	// Attempts lists a delivery's attempts, oldest first.
	Attempts(ctx context.Context, id DeliveryID) ([]*Attempt, error)
	// Deliveries lists deliveries, those of the newest event first, with or without a row.
	Deliveries(ctx context.Context, q DeliveryQuery) ([]*Delivery, error)
}

// DeliveryQuery picks deliveries. Zero fields don't restrict.
type DeliveryQuery struct {
	Account      string
	Subscription ID
	Event        ID
	EventType    string
	State        State
	Since, Until ID         // of events: Since and above, below Until
	Before       DeliveryID // below this one; the cursor of the next page
	Limit        int
}

// ReplayLog keeps replays, and finds what they go over.
type ReplayLog interface {
	// History lists deliveries of a subscription that have a row, oldest event first.
	History(ctx context.Context, q HistoryQuery) ([]*Delivery, error)
	// Replay finds a replay.
	Replay(ctx context.Context, id ID) (*Replay, error)
	// Replays lists replays, newest first.
	Replays(ctx context.Context, q ReplayQuery) ([]*Replay, error)
	// PutReplay makes or replaces a replay.
	PutReplay(ctx context.Context, r *Replay) error
}

// HistoryQuery picks deliveries of one subscription. Zero fields don't restrict.
type HistoryQuery struct {
	Subscription ID
	State        State
	Since, Until ID // of events: Since and above, below Until
	Limit        int
}

// ReplayQuery picks replays. Zero fields don't restrict.
type ReplayQuery struct {
	Account    string
	Unfinished bool
	Since      ID // this id and above
	Before     ID // below this id; the cursor of the next page
	Limit      int
}

// Housekeeping keeps a store from growing without bound.
type Housekeeping interface {
	// Prune looks at finished events, oldest first, and removes those that q lets go, with
	// their deliveries, attempts and idempotency keys: one small step, beside all else that
	// is written. An event is finished if each of its targets has a row and none of its
	// deliveries is pending or failed; others are never removed.
	Prune(ctx context.Context, q PruneQuery) (Pruned, error)
	// Compact gives room that nothing uses back to the file system, a small step of it,
	// until no more than so many bytes are left; more tells whether it has to go on.
	Compact(ctx context.Context, keep int64) (more bool, err error)
	// Room measures the store. The error is a CodeUnavailable where what is written now
	// would not be found again, as in a database file that was deleted meanwhile.
	Room(ctx context.Context) (Room, error)
	// OpenDeliveries counts the deliveries with a row that are pending or failed, by
	// subscription; subscriptions without any are left out.
	OpenDeliveries(ctx context.Context) (map[ID]BacklogCount, error)
}

// PruneQuery picks what Prune removes.
type PruneQuery struct {
	After  ID // events above this id: the cursor
	Before ID // and below this one
	// Remove tells whether a finished event may go: one of an account, with or without a
	// dead letter, that was received or last attempted at a time. It is called from the
	// caller's goroutine.
	Remove func(account string, dead bool, last time.Time) bool
}

// Pruned tells what a step of Prune did.
type Pruned struct {
	Events int   // how many it removed
	Bytes  int64 // of their data
	Last   ID    // the last event that it looked at: After of the next step
	More   bool  // there may be more before Before
}

// Room is what a store takes.
type Room struct {
	Bytes    int64 // that hold something
	Free     int64 // that the store has taken and nothing uses
	DiskFree int64 // left on the file system
}

// BacklogCount counts deliveries that are not done, of those with a row.
type BacklogCount struct {
	Pending int64
	Failed  int64 // they will be retried
}

// Catalogue keeps what users configure. The engine holds it all in memory and reads it
// once, at start. A change whose context carries an AuditEntry (WithEntry) stores that in
// the same commit: both are on disk, or neither.
type Catalogue interface {
	// Subscriptions lists all subscriptions that are not deleted.
	Subscriptions(ctx context.Context) ([]*Subscription, error)
	// PutSubscription makes or replaces a subscription. Version is the new one; a stored
	// version other than the one before it is a CodeStale, and nothing is written.
	PutSubscription(ctx context.Context, s *Subscription) error
	// Health lists how targets fare, of those that don't just do well.
	Health(ctx context.Context) ([]Health, error)
	// PutHealth writes down how targets fare.
	PutHealth(ctx context.Context, list []Health) error
	// DeleteSubscription removes a subscription, its secret and its health. Its deliveries
	// stay.
	DeleteSubscription(ctx context.Context, id ID) error
	// Scripts lists all scripts that are not deleted.
	Scripts(ctx context.Context) ([]*Script, error)
	// PutScript makes or replaces a script's record; Version as in PutSubscription. A name
	// that another script of the account has is a CodeConflict with Field "name". Its Cases
	// become those of its newest version, its UpdatedAt the LiveAt of a version that is
	// newly Live.
	PutScript(ctx context.Context, s *Script) error
	// DeleteScript removes a script. Its versions stay, for the attempts that name them.
	DeleteScript(ctx context.Context, id ID) error
	// PutScriptVersion stores a new version; a number that is taken is a CodeConflict. Its
	// Cases are the script's from then on.
	PutScriptVersion(ctx context.Context, v *ScriptVersion) error
	// ScriptVersion finds a version.
	ScriptVersion(ctx context.Context, script ID, number int) (*ScriptVersion, error)
	// ScriptVersions lists a script's versions below a number (0: all), newest first.
	ScriptVersions(ctx context.Context, script ID, before, limit int) ([]*ScriptVersion, error)
	// EventTypes lists the catalogue.
	EventTypes(ctx context.Context) ([]*EventType, error)
	// PutEventType makes or replaces an entry; Version as in PutSubscription.
	PutEventType(ctx context.Context, t *EventType) error
	// DeleteEventType removes an entry.
	DeleteEventType(ctx context.Context, name string) error
	// Accounts lists what is set for accounts.
	Accounts(ctx context.Context) ([]*Account, error)
	// PutAccount makes or replaces what is set for an account; Version as in PutSubscription.
	PutAccount(ctx context.Context, a *Account) error
	// Keys lists the API keys.
	Keys(ctx context.Context) ([]*Key, error)
	// PutKey stores a new key.
	PutKey(ctx context.Context, k *Key) error
	// ReplaceKey changes a key that is stored.
	ReplaceKey(ctx context.Context, k *Key) error
	// TouchKeys notes when keys were last used. A key that is gone is left out.
	TouchKeys(ctx context.Context, used map[ID]time.Time) error
	// DeleteKey removes a key.
	DeleteKey(ctx context.Context, id ID) error
	// Secret gives the secret that the store keeps under a name. Where there is none, fresh
	// is kept from now on and given.
	Secret(ctx context.Context, name string, fresh []byte) ([]byte, error)
}
