package engine

import (
	"encoding/base32"
	"encoding/binary"
	"strings"
	"sync"
	"time"
)

// ID names an event, a subscription or a key: 63 bits that grow with time, so that rows
// lie on disk in the order in which they came. From the top: 42 bits of milliseconds
// since 2020, 8 bits of node, 13 bits of sequence.
type ID int64

const (
	nodeBits     = 8
	sequenceBits = 13
	sequenceMask = 1<<sequenceBits - 1
)

var idEpoch = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli()

// The prefixes of ids as users see them.
const (
	EventPrefix        = "evt"
	SubscriptionPrefix = "sub"
	KeyPrefix          = "key"
	DeliveryPrefix     = "dlv"
	ReplayPrefix       = "rpl"
	AuditPrefix        = "aud"
)

// Lower-case Crockford base32: no padding, no letters that look like digits.
var idEncoding = base32.NewEncoding("0123456789abcdefghjkmnpqrstvwxyz").WithPadding(base32.NoPadding)

const idChars = 13

// Format gives the id as users see it: "evt_" and 13 letters and digits.
func (id ID) Format(prefix string) string {
	var raw [8]byte
	binary.BigEndian.PutUint64(raw[:], uint64(id))
	return prefix + "_" + idEncoding.EncodeToString(raw[:])
}

// Time gives the millisecond in which the id was made.
func (id ID) Time() time.Time {
	return time.UnixMilli(int64(id)>>(nodeBits+sequenceBits) + idEpoch).UTC()
}

// ParseID reads what Format wrote; ok is false where s is anything else.
func ParseID(prefix, s string) (id ID, ok bool) {
	rest, found := strings.CutPrefix(s, prefix+"_")
	if !found {
		return 0, false
	}
	return decodeID(rest)
}

func decodeID(s string) (ID, bool) {
	if len(s) != idChars {
		return 0, false
	}
	var raw [8]byte
	if n, err := idEncoding.Decode(raw[:], []byte(s)); err != nil || n != 8 || idEncoding.EncodeToString(raw[:]) != s {
		return 0, false
	}
	id := ID(binary.BigEndian.Uint64(raw[:]))
	return id, id > 0
}

// DeliveryID names one event's delivery to one subscription.
type DeliveryID struct {
	Event        ID
	Subscription ID
}

// String gives the id as users see it: "dlv_" and 26 letters and digits.
func (d DeliveryID) String() string {
	_, subscription, _ := strings.Cut(d.Subscription.Format(""), "_")
	return d.Event.Format(DeliveryPrefix) + subscription
}

// ParseDeliveryID reads what String wrote; ok is false where s is anything else.
func ParseDeliveryID(s string) (d DeliveryID, ok bool) {
	rest, found := strings.CutPrefix(s, DeliveryPrefix+"_")
	if !found || len(rest) != 2*idChars {
		return d, false
	}
	var ok1, ok2 bool
	d.Event, ok1 = decodeID(rest[:idChars])
	d.Subscription, ok2 = decodeID(rest[idChars:])
	return d, ok1 && ok2
}

// FirstIDAt gives the lowest id that can be made at t, to turn spans of time into spans
// of ids.
//
// It lies within what an ID holds, also for times that no ID has: never 0, which would
// not restrict at all.
func FirstIDAt(t time.Time) ID {
	const lastMilli = 1<<42 - 1
	return max(1, ID(min(max(0, t.UnixMilli()-idEpoch), lastMilli))<<(nodeBits+sequenceBits))
}

// idMaker hands out ids that only grow, also when the clock is set back.
type idMaker struct {
	mu   sync.Mutex
	now  func() time.Time
	node int64
	last int64 // ms<<13 | sequence of the last id
}

func newIDMaker(now func() time.Time, node int, after ID) *idMaker {
	// In the millisecond after the last id's, whichever node made that one.
	ms := int64(after)>>(nodeBits+sequenceBits) + 1
	return &idMaker{now: now, node: int64(node), last: ms << sequenceBits}
}

func (m *idMaker) next() ID {
	m.mu.Lock()
	defer m.mu.Unlock()
	// Over 8192 ids in a millisecond borrow from the next one.
	m.last = max(m.last+1, (m.now().UnixMilli()-idEpoch)<<sequenceBits)
	return ID(m.last>>sequenceBits<<(nodeBits+sequenceBits) | m.node<<sequenceBits | m.last&sequenceMask)
}
