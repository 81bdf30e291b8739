package engine

import (
	"time"
)

// State is where a delivery stands.
type State uint8

// The states of a delivery. They are stored as these numbers.
const (
	StatePending   State = 1 // waits for its next attempt, which nothing but a free place holds back
	StateRetrying  State = 2 // the last attempt failed, another comes at NextAt
	StateSucceeded State = 3
	StateDead      State = 4 // gave up: a dead letter
	StateDropped   State = 5 // nothing is to be sent: the transform said so, or a newer event took its place
)

var stateNames = [...]string{"", "pending", "failed", "succeeded", "dead", "dropped"}

// String gives the state's name in the API.
func (s State) String() string {
	if int(s) >= len(stateNames) {
		return "unknown"
	}
	return stateNames[s]
}

// ParseState reads a state's name in the API.
func ParseState(name string) (State, bool) {
	for s := StatePending; int(s) < len(stateNames); s++ {
		if stateNames[s] == name {
			return s, true
		}
	}
	return 0, false
}

// IsFinal tells whether no attempt will follow by itself.
func (s State) IsFinal() bool { return s >= StateSucceeded }

// Delivery is one event on its way to one subscription.
type Delivery struct {
	ID        DeliveryID
	Account   string
	EventType string
	EventKey  string // see Event.Key
	State     State
	Sequence  int64     // its number among the subscription's; 0 where that is not numbered
	Attempts  int       // how many were made
	NextAt    time.Time // when the next one is due; set in StateRetrying only
	LastAt    time.Time // when the last one began; zero before the first
	Status    int       // the last HTTP status; 0 where there was none
	Error     string    // what went wrong last; empty after success
}

// Attempt is one try to deliver: one POST, or a transform's failure to make one.
type Attempt struct {
	Number   int // 1 is the first
	At       time.Time
	Duration time.Duration // transform, connection, answer and its body
	Request  AttemptRequest
	Response AttemptResponse
	Error    string        // what went wrong; empty after success
	Phase    string        // where: "event", "transform", one of package target's, or "http"; empty after success
	Script   AttemptScript // zero where the subscription has no transform
	Resent   bool          // the request was sent a second time: the target had closed the kept connection without an answer
	Batch    int           // how many events the POST held, as a JSON array; 0 where this one went by itself
}

// AttemptRequest is the request as it was sent. Values of headers that carry a
// credential are replaced by "[hidden]".
type AttemptRequest struct {
	Method  string
	URL     string
	Headers []Header
	Body    []byte // in a batch, this delivery's element of the array
	// Plain says that Body is what the payload format makes of the event, so that it can
	// be made again and need not be stored.
	Plain PayloadFormat
}

// AttemptResponse is what came back.
type AttemptResponse struct {
	Status    int
	Headers   []Header
	Body      []byte // at most 16 KiB
	Truncated bool   // the answer was longer, or broke off
	BodyError string // why it broke off; empty if it did not
}

// AttemptScript is how the transform ran.
type AttemptScript struct {
	Ref     ScriptRef     // which version ran; zero where the subscription has a source of its own
	Hash    string        // of the source that ran, hexadecimal
	CPU     time.Duration // what it took
	Memory  int64         // bytes that it allocated; known in a dry run, not stored
	Console []string
}

// Header is one header field.
type Header struct{ Name, Value string }

// TruncatedFor is the answer as it is kept with all but the first of n deliveries that it is the
// answer for: so that n of it take no more room than a few.
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

const MaxKeptBody = 16 << 10 // bytes of it that are kept

// MaxKeptHeaders is how many bytes of an answer's headers are kept.
const MaxKeptHeaders = 8 << 10

const (
	MaxReadBody = 64 << 10 // bytes of an answer that are read, so that its connection can be used again
)
