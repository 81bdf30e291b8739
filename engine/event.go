package engine

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"maps"
	"slices"
	"strings"
	"time"

	"switchhook/scripts/jsonindex"
)

// Event is one published event. It is stored once and never changes.
type Event struct {
	ID      ID
	Key     string // the publisher's id for it; empty if there is none
	Account string
	Type    string            // "noun.verb"
	Time    time.Time         // when it happened, as the publisher says, or when it was received; millisecond precision
	Headers map[string]string // readable by filters and transforms; not sent automatically
	Data    []byte            // JSON, as the publisher wrote it
	Targets []ID              // the subscriptions that it matched at publish
	// Sequences are its sequence numbers in the order of Targets; 0 for a target that is not
	// numbered, nil if none is.
	Sequences []int64
	Hops      int // deliveries that led to it, one after the other: 0 for an event of a publisher
	// Unreadable lists the columns that the store could not decode; their fields are empty. Only
	// lists set it: reading such an event by id is an error.
	Unreadable []string
}

// PublicID returns the id under which the API shows the event: the publisher's, or "evt_…". The
// webhook-id header always has the latter, which is unique across accounts.
func (e *Event) PublicID() string {
	if e.Key != "" {
		return e.Key
	}
	return e.ID.Format(EventPrefix)
}

// Sequence returns the event's sequence number in a subscription; 0 if it has none.
func (e *Event) Sequence(subscription ID) int64 {
	if i := slices.Index(e.Targets, subscription); i >= 0 && i < len(e.Sequences) {
		return e.Sequences[i]
	}
	return 0
}

// Received returns when the event was accepted.
func (e *Event) Received() time.Time { return e.ID.Time() }

// EventInput is an event as it is published.
type EventInput struct {
	ID             string            // the publisher's own id; the same id means the same event
	Source         string            // the scope of ID, if IDs are unique only within their source (CloudEvents)
	IdempotencyKey string            // deduplicates as ID does, if the key does not name the event
	KeyPart        string            // which of several events under one IdempotencyKey this is
	Account        string            // DefaultAccount if empty
	Type           string            // required
	Time           time.Time         // now if zero
	Headers        map[string]string // names keep their spelling
	Data           jsonindex.Value   // required; its bytes must not change before Publish returns
	Targets        []Target          // receive it in addition to the matching subscriptions
	Hops           int               // as the HopsHeader of the request says; see Event.Hops
}

const (
	maxEventType = 128
	// MaxEventKey is the maximum number of characters of a publisher's event id.
	MaxEventKey     = 255
	maxSourcedKey   = 2048
	maxEventHeaders = 64
	maxHeaderBytes  = 8 << 10
)

// ValidEventType reports whether s is letters, digits and _ in parts joined by one of ". - / :". It
// is written out because every event passes it: a regular expression took 2 % of the router's time.
func ValidEventType(s string) bool {
	if s == "" || len(s) > maxEventType {
		return false
	}
	joint := true // the previous character was a joint, or s begins
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_':
			joint = false
		case (c == '.' || c == '-' || c == '/' || c == ':') && !joint:
			joint = true
		default:
			return false
		}
	}
	return !joint
}

// Validate validates everything that does not depend on stored data.
func (in *EventInput) Validate() (errs FieldErrors) {
	errs.Append(ValidateAccount(in.Account)...)
	if in.Type == "" {
		errs.Add("type", FieldRequired, `is missing: name what happened, such as "order.created"`)
	} else if !ValidEventType(in.Type) {
		errs.Add("type", FieldInvalid, `%.140q is not an event type: use letters, digits and _ in parts joined by ".", such as "order.created", %d characters at most`, in.Type, maxEventType)
	}
	if !in.Data.Exists() {
		errs.Add("data", FieldRequired, "is missing: give the event's payload, any JSON value")
	}
	if in.ID != "" && in.Source == "" && !ValidKey(in.ID) {
		errs.Add("id", FieldInvalid, "must be 1 to %d visible ASCII characters", MaxEventKey)
	}
	if n := len(in.ID) + len(in.Source); n > maxSourcedKey {
		errs.Add("id", FieldTooLong, "and source are %d bytes, %d are allowed", n, maxSourcedKey)
	}
	if in.IdempotencyKey != "" && !ValidKey(in.IdempotencyKey) {
		errs.Add("Idempotency-Key", FieldInvalid, "must be 1 to %d visible ASCII characters", MaxEventKey)
	}
	if year := in.Time.UTC().Year(); !in.Time.IsZero() && (year < 1970 || year > 9999) {
		errs.Add("time", FieldOutOfRange, "must lie in the years 1970 to 9999")
	}
	if len(in.Headers) > maxEventHeaders {
		errs.Add("headers", FieldTooMany, "has %d entries, %d are allowed", len(in.Headers), maxEventHeaders)
	}
	size := 0
	for name, value := range in.Headers {
		size += len(name) + len(value)
	}
	if size > maxHeaderBytes {
		errs.Add("headers", FieldTooLong, "are %d bytes, %d are allowed", size, maxHeaderBytes)
	}
	return errs
}

// ValidKey reports whether s can be a publisher's event id.
func ValidKey(s string) bool {
	return len(s) <= MaxEventKey && strings.IndexFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }) < 0
}

// KeyHash is the stored form of an idempotency key: 16 bytes of a hash over the account and the
// key.
type KeyHash [16]byte

// EventKeyHash returns the KeyHash of a publisher's event id.
func EventKeyHash(account, id string) KeyHash { return HashParts("id", account, id) }

// SourcedKeyHash returns the KeyHash of an event id that is unique within its source.
func SourcedKeyHash(account, source, id string) KeyHash {
	return HashParts("sourced id", account, source, id)
}

// AnySourceKeyHash returns the KeyHash that leads to the first event with an id, whatever its
// source.
func AnySourceKeyHash(account, id string) KeyHash { return HashParts("any source's id", account, id) }

func idempotencyKeyHash(account, key, part string) KeyHash {
	return HashParts("key", account, key, part)
}

// HashParts hashes parts without ambiguity between different lists of parts.
func HashParts(parts ...string) (h KeyHash) {
	sum := sha256.New()
	var n [8]byte
	for _, p := range parts {
		binary.BigEndian.PutUint64(n[:], uint64(len(p)))
		sum.Write(n[:])
		sum.Write([]byte(p))
	}
	copy(h[:], sum.Sum(nil))
	return h
}

// Keys returns the idempotency keys of in.
func (in *EventInput) Keys() (keys []KeyHash) {
	switch {
	case in.ID != "" && in.Source != "":
		keys = append(keys, SourcedKeyHash(in.Account, in.Source, in.ID))
	case in.ID != "":
		keys = append(keys, EventKeyHash(in.Account, in.ID))
	}
	if in.IdempotencyKey != "" {
		keys = append(keys, idempotencyKeyHash(in.Account, in.IdempotencyKey, in.KeyPart))
	}
	return keys
}

// Digest distinguishes the content of events under the same key. A time that the publisher left out
// does not count: it would differ on every repeat. For an event with a source only type and data
// count besides its name: the other attributes may describe the path of this copy (tracing), and
// CloudEvents 1.0 regards it as the same event.
func (in *EventInput) Digest() KeyHash {
	parts := []string{in.Type, string(in.Data.Raw())}
	if in.Source != "" {
		return HashParts(append(parts, in.Source, in.ID)...)
	}
	if !in.Time.IsZero() {
		parts = append(parts, in.Time.UTC().Format(time.RFC3339Nano))
	}
	for i := range in.Targets {
		parts = append(parts, in.Targets[i].Key(in.Account))
	}
	names := make([]string, 0, len(in.Headers))
	for name := range in.Headers {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		parts = append(parts, name, in.Headers[name])
	}
	return HashParts(parts...)
}

// DefaultAccount owns objects that are created without an account.
const DefaultAccount = "default"

// Accepted is the result of publishing an event.
type Accepted struct {
	ID       ID
	PublicID string // see Event.PublicID
	Matched  int    // number of subscriptions it will be delivered to
	Repeated bool   // it was published before under the same id or key; nothing new happens
	Targets  []ID   // the subscriptions of the targets named with it, in their order
}

// CachedSize returns the memory that a cached event uses, in bytes.
func (e *Event) CachedSize() int64 {
	n := 256 + len(e.Data) + 8*(len(e.Targets)+len(e.Sequences))
	for name, value := range e.Headers {
		n += 64 + len(name) + len(value)
	}
	return int64(n)
}

// Target is a URL named with an event, which is delivered there in addition to the matching
// subscriptions.
//
// Each distinct target of an account is a hidden subscription, created when it is first named, with
// an id, a secret, a queue and a log like any other. It is deleted when no event has named it for
// long.
type Target struct {
	URL           string
	Secret        string // empty: the router generates one
	Headers       map[string]string
	Transform     string // JavaScript or TypeScript source
	PayloadFormat PayloadFormat
}

// Key identifies a target within an account.
func (t *Target) Key(account string) string {
	format := t.PayloadFormat
	if format == "" {
		format = FormatStandard
	}
	parts := []string{"target", account, t.URL, t.Secret, t.Transform, string(format)}
	for _, name := range slices.Sorted(maps.Keys(t.Headers)) {
		parts = append(parts, name, t.Headers[name])
	}
	h := HashParts(parts...)
	return hex.EncodeToString(h[:])
}

// TargetsIn returns the targets of in among those of the stored event that it repeats, which has
// them at the end, each once. If the content differs under one key, which is a conflict, the result
// is meaningless.
func (in *EventInput) TargetsIn(stored []ID) []ID {
	place := map[string]int{}
	for i := range in.Targets {
		if key := in.Targets[i].Key(in.Account); place[key] == 0 {
			place[key] = len(place) + 1
		}
	}
	ids := make([]ID, len(in.Targets))
	if len(stored) < len(place) {
		return ids
	}
	own := stored[len(stored)-len(place):]
	for i := range in.Targets {
		ids[i] = own[place[in.Targets[i].Key(in.Account)]-1]
	}
	return ids
}

// HopsHeader carries the number of deliveries that led to a request, itself included. A publish
// repeats it for an event that follows from a delivery, so that a loop ends.
const HopsHeader = "Switchhook-Hops"

// SequenceHeader carries a delivery's sequence number if the subscription is numbered.
const SequenceHeader = "webhook-sequence"
