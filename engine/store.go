package engine

import (
	"context"
	"time"
)

// Store stores everything that must survive a restart. It commits in groups: calls that arrive at
// the same time become durable in one commit. All methods are safe for concurrent use; errors that
// a user can act on are *Error.
//
// Every query takes the account whose objects it may return; an empty account sees all. A row that
// can't be decoded in full does not fail a list: it is returned with the readable fields, and
// Unreadable names the others. Reading such a row alone is a CodeUnreadable.
//
// A list that has a cursor ends at Limit rows, at MaxBytes of rows (the first row comes whatever its
// size), or when looking for rows that its query selects has taken too long: then it may be empty.
// next is the cursor of the rest; zero if there is none. Zero limits don't limit.
//
// The suite in storage/storetest tests what each method promises.
type Store interface {
	EventLog
	NodeLog
	DeliveryLog
	ReplayLog
	Catalog
	AuditLog
	RequestLog
	Housekeeping
	// Ping checks that the store can be written.
	Ping(ctx context.Context) error
	// Close finishes all writes: when it returns, everything accepted before is on disk.
	Close() error
}

// PageBytes is the MaxBytes of lists unless a caller needs others.
const PageBytes = 4 << 20

// NewEvent is an event to be stored.
type NewEvent struct {
	Event  *Event
	Keys   []KeyHash // idempotency keys that lead to it from now on
	Names  []KeyHash // keys that also lead to it, unless they lead to another event already; they do not make a repeat
	Digest KeyHash   // of its content, to tell a repeat from a conflict
	// Numbered lists the indexes in Event.Targets of the subscriptions whose deliveries are
	// numbered; nil if there are none.
	Numbered []int
}

// Appended is the result of storing a NewEvent.
type Appended struct {
	ID       ID  // the event's, or the id of the event stored before under the same key
	Matched  int // number of subscriptions that event matched at publish
	Repeated bool
	// Sequences are the sequence numbers that the event got, see Event.Sequences; nil for a repeat.
	Sequences []int64
	// Positions are those of the deliveries, by index in Event.Targets; nil if each is at PositionOf
	// the event.
	Positions []Position
}

// Position returns the position of the delivery to the i-th of the event's targets.
func (a *Appended) Position(i int) Position {
	if a.Positions == nil {
		return PositionOf(a.ID)
	}
	return a.Positions[i]
}

// EventLog stores events.
type EventLog interface {
	// Append stores events, all or none, and returns once they are on disk. A key that is known
	// with the same digest is a repeat: that event is not stored again, and the result describes
	// the first one. With another digest it is a CodeConflict with Field "events[i]", and nothing
	// is stored. Repeats within one call count as well.
	//
	// Each stored event gets the next number of each numbered subscription that it matched: 1, 2, 3
	// and so on in the order of commits, without a gap.
	//
	// The deliveries of one subscription have different positions. If Append returned with an event
	// before another one got its id, the first one's position is the lower, whichever nodes called.
	Append(ctx context.Context, events []NewEvent) ([]Appended, error)
	// Event returns an event.
	Event(ctx context.Context, account string, id ID) (*Event, error)
	// EventsByID returns the events with some ids, by id, in one read. It ends before the event with
	// which their CachedSize together would exceed bytes. Those that were removed, or can't be read in
	// full, are left out.
	EventsByID(ctx context.Context, ids []ID, bytes int64) ([]*Event, error)
	// EventByKey returns the event that Append stored under an idempotency key.
	EventByKey(ctx context.Context, key KeyHash) (ID, error)
	// Events lists events, newest first, or oldest first if q.Oldest is set. next is the last one's id.
	Events(ctx context.Context, q EventQuery) (list []*Event, next ID, err error)
	// StoredBytes returns the size of what is stored for an account, as of the last commit. It is
	// cheap for accounts that write often.
	StoredBytes(ctx context.Context, account string) (StoredBytes, error)
	// LargestAccounts returns the accounts with the most stored bytes, the largest first, and the
	// bytes of all accounts.
	LargestAccounts(ctx context.Context, limit int) (largest []AccountBytes, total int64, err error)
}

// AccountBytes are the stored bytes of an account.
type AccountBytes struct {
	Account string
	Bytes   int64
}

// NodeLog tells what one node accepted and did not finish; everything else in a Store belongs to all
// nodes. A store that only one process can open has one node: it is the same whatever its id.
type NodeLog interface {
	// LastEventID returns the highest stored event id of a node, 0 if there is none.
	LastEventID(ctx context.Context, node NodeID) (ID, error)
	// Unfinished lists, oldest first, up to limit events of a node after an id that have targets
	// without a row; their Targets are only those, and their Data is not loaded.
	Unfinished(ctx context.Context, node NodeID, after ID, limit int) ([]*Event, error)
	// Watermark returns the watermark of a node that was set last, 0 if none was: no event of the
	// node at or below it has targets without a row.
	Watermark(ctx context.Context, node NodeID) (ID, error)
	// SetWatermark raises the watermark of a node with the next commit.
	SetWatermark(node NodeID, id ID)
}

// EventQuery selects events. Zero fields don't restrict.
type EventQuery struct {
	Account  string
	Type     string
	Since    ID   // this id and above
	Before   ID   // below this id; the cursor of the next page
	Oldest   bool // oldest first
	Limit    int
	MaxBytes int64
}

// Outcome is a change of one delivery's row. The row is inserted if there is none.
type Outcome struct {
	ID       DeliveryID
	State    State
	Attempts int
	NextAt   time.Time
	// RenewedAt is set if the delivery was requested again and must be attempted whatever its row
	// says: give_up_after is measured from it. Zero leaves the stored value.
	RenewedAt time.Time
	Error     string
	Attempt   *Attempt // nil without an attempt: the delivery only waits, or has become dead
	// Limit names the delivery's account, which the store looks up if it is empty, and what it may
	// store; Bytes 0 is no limit. An attempt that would take the account beyond it is stored without
	// headers, bodies and console output (Attempt.NotStored), and of such attempts of one delivery
	// only the last BareAttempts stay.
	Limit    StorageLimit
	Position Position // of the delivery; Record sets it before it calls done, if RenewedAt is set
}

// Waiting is a delivery that must be attempted.
type Waiting struct {
	ID        DeliveryID
	Position  Position
	Attempts  int       // number of attempts so far
	RenewedAt time.Time // see Outcome
	Failed    bool      // it is not due yet; only Outstanding lists such
}

// DeliveryLog stores deliveries and their attempts. A delivery has no row before its first outcome:
// it is pending because its event names the subscription among its targets.
type DeliveryLog interface {
	// Record adds an outcome to the next commit and returns at once, or when the write queue has
	// room. done is called, from the store's goroutine, when the outcome is on disk or could not be
	// written; it must not block. An outcome with RenewedAt whose event was removed is a
	// CodeNotFound, and nothing is stored.
	Record(o *Outcome, done func(error))
	// TakeDue makes up to limit retrying deliveries whose NextAt has passed pending and returns
	// them, the longest due first. taken receives them, from the store's goroutine, before any
	// other call can see them as pending; it must not block. If there is an error, taken may have
	// been called again or for nothing.
	TakeDue(ctx context.Context, now time.Time, limit int, taken func([]Waiting)) ([]Waiting, error)
	// NextDue returns when the next retrying delivery is due; the zero time if none waits.
	NextDue(ctx context.Context) (time.Time, error)
	// Backlog lists up to limit pending deliveries of a subscription that have a row, oldest event
	// first.
	Backlog(ctx context.Context, subscription ID, limit int) ([]Waiting, error)
	// Outstanding lists up to limit deliveries of a subscription that have a row and are pending or
	// retrying, from a position on, in the order of positions.
	Outstanding(ctx context.Context, subscription ID, from Position, limit int) ([]Waiting, error)
	// BacklogSubscriptions lists the subscriptions that have pending deliveries with a row.
	BacklogSubscriptions(ctx context.Context) ([]ID, error)
	// MarkOutstandingDead makes the waiting deliveries of a subscription (pending with a row, or retrying) dead.
	MarkOutstandingDead(ctx context.Context, subscription ID, reason string) error
	// CountDeliveries counts the deliveries with a row in a state other than succeeded, up to
	// limit, and returns the event of the oldest: 0 if there is none. It must be cheap however many
	// deliveries there are.
	CountDeliveries(ctx context.Context, state State, limit int) (n int, oldest ID, err error)
	// Delivery returns a delivery, with or without a row.
	Delivery(ctx context.Context, account string, id DeliveryID) (*Delivery, error)
	// Attempts lists a delivery's attempts, newest first, without the bodies of request and response:
	// only their sizes.
	Attempts(ctx context.Context, q AttemptQuery) (list []*Attempt, next int, err error)
	// Attempt returns an attempt of a delivery, with its bodies.
	Attempt(ctx context.Context, id DeliveryID, number int) (*Attempt, error)
	// Deliveries lists deliveries, newest event first, with or without a row.
	Deliveries(ctx context.Context, q DeliveryQuery) (list []*Delivery, next DeliveryID, err error)
}

// AttemptQuery selects attempts of a delivery.
type AttemptQuery struct {
	Delivery DeliveryID
	Before   int // below this number; the cursor of the next page
	Limit    int
	MaxBytes int64
}

// DeliveryQuery selects deliveries. Zero fields don't restrict.
type DeliveryQuery struct {
	Account      string
	Subscription ID
	Event        ID
	EventType    string
	State        State
	Since, Until ID         // of events: Since and above, below Until
	Before       DeliveryID // below this one; the cursor of the next page
	Limit        int
	MaxBytes     int64
}

// ReplayLog stores replays, and lists the deliveries that they process.
type ReplayLog interface {
	// History lists deliveries of a subscription that have a row, oldest event first.
	History(ctx context.Context, q HistoryQuery) ([]*Delivery, error)
	// Replay returns a replay.
	Replay(ctx context.Context, id ID) (*Replay, error)
	// Replays lists replays, newest first.
	Replays(ctx context.Context, q ReplayQuery) (list []*Replay, next ID, err error)
	// PutReplay inserts or replaces a replay.
	PutReplay(ctx context.Context, r *Replay) error
}

// HistoryQuery selects deliveries of one subscription. Zero fields don't restrict.
type HistoryQuery struct {
	Subscription ID
	State        State
	Since, Until ID // of events: Since and above, below Until
	Limit        int
}

// ReplayQuery selects replays. Zero fields don't restrict.
type ReplayQuery struct {
	Account    string
	Unfinished bool
	Since      ID // this id and above
	Before     ID // below this id; the cursor of the next page
	Limit      int
	MaxBytes   int64
}

// Housekeeping limits the growth of a store.
type Housekeeping interface {
	// Prune examines finished events, oldest first, and removes those that q allows, with their
	// deliveries, attempts and idempotency keys, in one small step between other writes. An event
	// is finished if each of its targets has a row and none of its deliveries is pending or
	// retrying; others are never removed.
	Prune(ctx context.Context, q PruneQuery) (Pruned, error)
	// Compact returns unused space to the file system, in one small step, until at most keep bytes
	// are unused; more reports whether it must be called again.
	Compact(ctx context.Context, keep int64) (more bool, err error)
	// Room measures the store. The error is a CodeUnavailable if writes would be lost, for example
	// because the database file was deleted.
	Room(ctx context.Context) (Room, error)
	// OpenDeliveries counts the deliveries with a row that are pending or retrying, by
	// subscription; subscriptions without any are left out.
	OpenDeliveries(ctx context.Context) (map[ID]BacklogCount, error)
}

// PruneQuery selects the events that Prune removes.
type PruneQuery struct {
	After  ID // events above this id: the cursor
	Before ID // and below this one
	// Account, if set, restricts the step to an account's events.
	Account string
	// Bytes, if set, ends the step with the event whose removal frees so many stored bytes in all.
	Bytes int64
	// Work is about how long the step may keep others from writing; 0 is 4 ms.
	Work time.Duration
	// Remove reports whether a finished event may be removed, given its account, whether it has a
	// dead letter, and when it was received or last attempted. It is called from the caller's
	// goroutine.
	Remove func(account string, dead bool, last time.Time) bool
}

// Pruned is the result of one step of Prune.
type Pruned struct {
	Events int   // number of removed events
	Bytes  int64 // size of their data
	Last   ID    // the last examined event: After of the next step
	More   bool  // there may be more before Before
	// Unfinished is the number of examined events that are not finished.
	Unfinished int
	Worked     time.Duration // how long the step kept others from writing
}

// Room is the space that a store uses.
type Room struct {
	Bytes    int64 // in use
	Free     int64 // allocated but unused
	DiskFree int64 // free on the file system
}

// BacklogCount counts the unfinished deliveries that have a row.
type BacklogCount struct {
	Pending int64
	Failed  int64 // waiting for a retry
}

// Catalog stores the configuration. The engine holds all of it in memory but versions and test cases
// of scripts, and reads it once, at start. A change whose context carries an AuditEntry (WithEntry) stores that in the same commit:
// both are on disk, or neither.
type Catalog interface {
	// Subscriptions lists all subscriptions that are not deleted.
	Subscriptions(ctx context.Context) ([]*Subscription, error)
	// PutSubscription inserts or replaces a subscription. Version is the new one; unless the stored
	// version is the one before it, the error is a CodeStale and nothing is written.
	PutSubscription(ctx context.Context, s *Subscription) error
	// Health lists the health of targets other than healthy ones.
	Health(ctx context.Context) ([]Health, error)
	// PutHealth stores the health of targets.
	PutHealth(ctx context.Context, list []Health) error
	// DeleteSubscription removes a subscription, its secret and its health. Its deliveries stay.
	DeleteSubscription(ctx context.Context, id ID) error
	// Scripts lists all scripts that are not deleted, without their Cases.
	Scripts(ctx context.Context) ([]*Script, error)
	// ScriptCases returns a script's Cases.
	ScriptCases(ctx context.Context, id ID) ([]byte, error)
	// PutScript inserts or replaces a script's record; Version as in PutSubscription. A name that
	// another script of the account has is a CodeConflict with Field "name". Its Cases become those
	// of its newest version, its UpdatedAt the LiveAt of a version that is newly Live.
	PutScript(ctx context.Context, s *Script) error
	// DeleteScript removes a script with its versions.
	DeleteScript(ctx context.Context, id ID) error
	// PutScriptVersion stores a new version; a number that exists is a CodeConflict. Its Cases
	// become the script's.
	PutScriptVersion(ctx context.Context, v *ScriptVersion) error
	// ScriptVersion returns a version.
	ScriptVersion(ctx context.Context, script ID, number int) (*ScriptVersion, error)
	// ScriptSource returns the source of a version.
	ScriptSource(ctx context.Context, ref ScriptRef) (string, error)
	// ScriptVersions lists a script's versions, newest first.
	ScriptVersions(ctx context.Context, q ScriptVersionQuery) (list []*ScriptVersion, next int, err error)
	// EventTypes lists the event types.
	EventTypes(ctx context.Context) ([]*EventType, error)
	// PutEventType inserts or replaces an event type; Version as in PutSubscription.
	PutEventType(ctx context.Context, t *EventType) error
	// DeleteEventType removes an event type.
	DeleteEventType(ctx context.Context, name string) error
	// Accounts lists the configured accounts.
	Accounts(ctx context.Context) ([]*Account, error)
	// PutAccount inserts or replaces the configuration of an account; Version as in
	// PutSubscription.
	PutAccount(ctx context.Context, a *Account) error
	// Keys lists the API keys.
	Keys(ctx context.Context) ([]*Key, error)
	// PutKey stores a new key.
	PutKey(ctx context.Context, k *Key) error
	// ReplaceKey changes a stored key.
	ReplaceKey(ctx context.Context, k *Key) error
	// TouchKeys stores when keys were last used. Deleted keys are skipped.
	TouchKeys(ctx context.Context, used map[ID]time.Time) error
	// DeleteKey removes a key.
	DeleteKey(ctx context.Context, id ID) error
	// Secret returns the secret that is stored under a name. If there is none, it stores fresh and
	// returns that.
	Secret(ctx context.Context, name string, fresh []byte) ([]byte, error)
}

// ScriptVersionQuery selects versions of a script.
type ScriptVersionQuery struct {
	Script   ID
	Before   int // below this number; the cursor of the next page
	Limit    int
	MaxBytes int64
}
