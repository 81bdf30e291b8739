package engine

import (
	"time"
)

// State is the state of a delivery.
type State uint8

// The states of a delivery. They are stored as these numbers.
const (
	StatePending   State = 1 // waits for its next attempt, which needs only a free slot
	StateRetrying  State = 2 // the last attempt failed; the next one is due at NextAt
	StateSucceeded State = 3
	StateDead      State = 4 // no further attempt: a dead letter
	StateDropped   State = 5 // nothing is sent: the transform dropped it, or a newer event superseded it
)

var stateNames = [...]string{"", "pending", "retrying", "succeeded", "dead", "dropped"}

// String returns the state's name in the API.
func (s State) String() string {
	if int(s) >= len(stateNames) {
		return "unknown"
	}
	return stateNames[s]
}

// ParseState parses a state's name in the API.
func ParseState(name string) (State, bool) {
	for s := StatePending; int(s) < len(stateNames); s++ {
		if stateNames[s] == name {
			return s, true
		}
	}
	return 0, false
}

// IsFinal reports whether no attempt will follow automatically.
func (s State) IsFinal() bool { return s >= StateSucceeded }

// Delivery is one event for one subscription.
type Delivery struct {
	ID        DeliveryID
	Account   string
	EventType string
	EventKey  string // see Event.Key
	State     State
	Sequence  int64     // its sequence number within the subscription; 0 if that is not numbered
	Attempts  int       // attempts so far
	NextAt    time.Time // when the next attempt is due; only in StateRetrying
	LastAt    time.Time // when the last attempt began; zero before the first
	Status    int       // the last HTTP status; 0 if there was none
	Error     string    // the last error; empty after success
}

// Attempt is one attempt of a delivery: one POST, or a transform that failed before it.
type Attempt struct {
	Number   int // 1 is the first
	At       time.Time
	Duration time.Duration // transform, connection, response and its body
	Request  AttemptRequest
	Response AttemptResponse
	Error    string        // empty after success
	Phase    string        // the phase that failed: "event", "transform", one of package target's, or "http"; empty after success
	Script   AttemptScript // zero if the subscription has no transform
	Resent   bool          // the request was sent a second time: the target had closed the idle connection without a response
	TimedOut bool          // the time was up before the target responded; Phase says in which part
	// NotStored means that headers, bodies and console output were not stored, since the account had
	// used up its quota of bytes.
	NotStored bool
	Batch     int // number of events in the POST, as a JSON array; 0 if it was not a batch
}

// AttemptRequest is the request as it was sent. Credentials in header values are replaced by
// "[hidden]".
type AttemptRequest struct {
	Method  string
	URL     string
	Headers []Header
	Body    []byte // in a batch, this delivery's element of the array
	Size    int    // of Body in bytes; a list of attempts leaves Body out
	// Plain means that Body is the payload format's rendering of the event: it can be rendered
	// again and need not be stored.
	Plain PayloadFormat
}

// AttemptResponse is the target's response.
type AttemptResponse struct {
	Status    int
	Headers   []Header
	Body      []byte // at most 16 KiB
	Size      int    // of Body in bytes; a list of attempts leaves Body out
	Truncated bool   // the response was longer, or broke off
	BodyError string // why it broke off; empty if it did not
}

// AttemptScript is the transform run of an attempt.
type AttemptScript struct {
	Ref     ScriptRef     // the version that ran; zero for an inline source
	Hash    string        // of the source that ran, hexadecimal
	CPU     time.Duration // CPU time used
	Memory  int64         // bytes allocated; known in a preview, not stored
	Console []string
}

// Header is one header field.
type Header struct{ Name, Value string }

// TruncatedFor returns the response as it is stored with all but the first of the n deliveries of a
// batch, so that n copies of it take little space.
func (a AttemptResponse) TruncatedFor(n int) AttemptResponse {
	const least = 256
	if most := max(least, MaxKeptBody/n); len(a.Body) > most {
		a.Body, a.Truncated = a.Body[:most], true
	}
	size := 0
	for i, h := range a.Headers {
		if size += len(h.Name) + len(h.Value); size > max(4*least, MaxKeptHeaders/n) {
			a.Headers = a.Headers[:i]
			break
		}
	}
	return a
}

// BareAttempts is the number of attempts without bodies that are stored of a delivery whose account has
// used up its quota of bytes.
const BareAttempts = 3

const MaxKeptBody = 16 << 10 // bytes of a response body that are stored

// MaxKeptHeaders is the maximum number of bytes of a response's headers that are stored.
const MaxKeptHeaders = 8 << 10

const (
	MaxReadBody = 64 << 10 // bytes of a response that are read, so that its connection can be reused
)
