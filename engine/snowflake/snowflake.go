// Package snowflake makes the ids of events, subscriptions and all else that is stored:
// numbers that grow with time. It writes and reads them as users see them, and does not
// know what they name.
package snowflake

import (
	"encoding/base32"
	"encoding/binary"
	"strings"
	"sync"
	"time"
)

// ID is 63 bits that grow with time, so that rows lie on disk in the order in which they
// came. From the top: 42 bits of milliseconds since 2020, 8 bits of node, 13 bits of
// sequence. No thing has the ID 0.
type ID int64

const (
	nodeBits     = 8
	sequenceBits = 13
	sequenceMask = 1<<sequenceBits - 1
)

// Last is above every ID that a Maker makes.
const Last = ID(1<<63 - 1)

// Chars is the number of letters and digits that Encode returns.
const Chars = 13

var epoch = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli()

// Encoding is lower-case Crockford base32: no padding, no letters that look like digits.
var Encoding = base32.NewEncoding("0123456789abcdefghjkmnpqrstvwxyz").WithPadding(base32.NoPadding)

// Format gives the id as users see it: the prefix, "_", and 13 letters and digits.
func (id ID) Format(prefix string) string {
	var room [32]byte // with which the text is all that is allocated
	return string(id.encode(append(append(room[:0], prefix...), '_')))
}

// Encode gives the letters and digits of Format.
func (id ID) Encode() string {
	var room [Chars]byte
	return string(id.encode(room[:0]))
}

func (id ID) encode(b []byte) []byte {
	var raw [8]byte
	binary.BigEndian.PutUint64(raw[:], uint64(id))
	return Encoding.AppendEncode(b, raw[:])
}

// Time gives the millisecond in which the id was made.
func (id ID) Time() time.Time {
	return time.UnixMilli(int64(id)>>(nodeBits+sequenceBits) + epoch).UTC()
}

// Parse reads what Format wrote; ok is false where s is anything else.
func Parse(prefix, s string) (id ID, ok bool) {
	rest, found := strings.CutPrefix(s, prefix+"_")
	if !found {
		return 0, false
	}
	return Decode(rest)
}

// Decode reads what Encode wrote; ok is false where s is anything else.
func Decode(s string) (id ID, ok bool) {
	if len(s) != Chars {
		return 0, false
	}
	var raw [8]byte
	if n, err := Encoding.Decode(raw[:], []byte(s)); err != nil || n != 8 || Encoding.EncodeToString(raw[:]) != s {
		return 0, false
	}
	id = ID(binary.BigEndian.Uint64(raw[:]))
	return id, id > 0
}

// FirstAt gives the lowest id that can be made at t, to turn spans of time into spans of
// ids.
//
// It lies within what an ID holds, also for times that no ID has: never 0, which would
// not restrict at all.
func FirstAt(t time.Time) ID {
	const lastMilli = 1<<42 - 1
	return max(1, ID(min(max(0, t.UnixMilli()-epoch), lastMilli))<<(nodeBits+sequenceBits))
}

// Maker hands out ids that only grow, also when the clock is set back. It may be used by
// many goroutines.
type Maker struct {
	mu   sync.Mutex
	now  func() time.Time
	node int64
	last int64 // ms<<13 | sequence of the last id
}

// NewMaker makes the Maker of a node, 0 to 255, whose ids are all above after.
func NewMaker(now func() time.Time, node int, after ID) *Maker {
	// In the millisecond after the last id's, whichever node made that one.
	ms := int64(after)>>(nodeBits+sequenceBits) + 1
	return &Maker{now: now, node: int64(node), last: ms << sequenceBits}
}

// Next makes an id.
func (m *Maker) Next() ID {
	m.mu.Lock()
	defer m.mu.Unlock()
	// Over 8192 ids in a millisecond borrow from the next one.
	m.last = max(m.last+1, (m.now().UnixMilli()-epoch)<<sequenceBits)
	return ID(m.last>>sequenceBits<<(nodeBits+sequenceBits) | m.node<<sequenceBits | m.last&sequenceMask)
}
