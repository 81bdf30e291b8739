package engine

import (
	"time"
)

// Account is what is set for an account. One that nobody set anything for has none.
type Account struct {
	Name      string
	Verify    VerificationMode // asked of the targets of its subscriptions
	Quota     Quota
	Retention Retention
	Version   int64
	CreatedAt time.Time
	UpdatedAt time.Time
	// Unreadable are the columns that the store could not decode. What was set with them is
	// not known: until it is set anew, nothing of the account is removed.
	Unreadable []string
}

// Quota bounds what an account may use. Zero fields take the router's default, NoLimit
// lifts it.
type Quota struct {
	Subscriptions   int   `json:"subscriptions,omitempty"`
	EventsPerSecond int   `json:"events_per_second,omitempty"` // over time; the events of a second may come at once
	StoredBytes     int64 `json:"stored_bytes,omitempty"`      // of events
}

// Retention says how long what is finished is kept. Zero fields take the router's default.
type Retention struct {
	Succeeded time.Duration `json:"succeeded,omitempty"` // events all of whose deliveries succeeded or were dropped, and those that nobody asked for
	Dead      time.Duration `json:"dead,omitempty"`      // events with a dead letter
}

// NoLimit, as a member of a Quota, lifts the router's default for an account.
const NoLimit = -1

// WithDefaults fills the zero members of q from the router's default; in what comes back, 0 is no
// limit.
func (q Quota) WithDefaults(standard Quota) Quota {
	return Quota{
		Subscriptions:   limitOr(q.Subscriptions, standard.Subscriptions),
		EventsPerSecond: limitOr(q.EventsPerSecond, standard.EventsPerSecond),
		StoredBytes:     limitOr(q.StoredBytes, standard.StoredBytes),
	}
}

func limitOr[N int | int64](own, standard N) N {
	if own == 0 {
		own = standard
	}
	return max(own, 0)
}

// Validate validates a quota as a user sets it.
func (q Quota) Validate() *Error {
	for _, m := range []struct {
		name  string
		value int64
	}{{"subscriptions", int64(q.Subscriptions)}, {"events_per_second", int64(q.EventsPerSecond)}, {"stored_bytes", q.StoredBytes}} {
		if m.value < NoLimit {
			return Invalid("quota."+m.name, "is %d: give a number from 1, or -1 for no limit", m.value)
		}
	}
	return nil
}

// Usage is what an account uses of its quota.
type Usage struct {
	Subscriptions int
	StoredBytes   int64 // of events' data
}

// ValidAccount reports whether s is letters, digits and _ . : @ -, with a letter or digit
// first. Like validEventType it is written out for speed.
func ValidAccount(s string) bool {
	if s == "" || len(s) > 128 {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9':
		case i > 0 && (c == '_' || c == '.' || c == ':' || c == '@' || c == '-'):
		default:
			return false
		}
	}
	return true
}

// CheckAccount refuses a name that no account can have.
func CheckAccount(s string) *Error {
	if !ValidAccount(s) {
		return Invalid("account", "%.140q is no account name: use letters, digits and _ . : @ -, 128 at most", s)
	}
	return nil
}
