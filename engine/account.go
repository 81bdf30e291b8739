package engine

import (
	"time"
)

// Account is the configuration of an account. An account that was never configured has none.
type Account struct {
	Name      string
	Verify    VerificationMode // asked of the targets of its subscriptions
	Quota     Quota
	Retention Retention
	Version   int64
	CreatedAt time.Time
	UpdatedAt time.Time
	// Unreadable lists the columns that the store could not decode. Until they are set again,
	// nothing of the account is removed.
	Unreadable []string
}

// Quota limits what an account may use. Zero fields take the router's default; NoLimit lifts it.
type Quota struct {
	Subscriptions   int   `json:"subscriptions,omitempty"`
	EventsPerSecond int   `json:"events_per_second,omitempty"` // average; the events of one second may arrive in one burst
	StoredBytes     int64 `json:"stored_bytes,omitempty"`      // of all that is stored for the account
}

// Retention is the time for which finished events are kept. Zero fields take the router's default.
type Retention struct {
	Succeeded time.Duration `json:"succeeded,omitempty"` // events whose deliveries all succeeded or were dropped, and events without deliveries
	Dead      time.Duration `json:"dead,omitempty"`      // events with a dead letter
}

// NoLimit, as a member of a Quota, lifts the router's default for an account.
const NoLimit = -1

// WithDefaults returns q with its zero members filled from the router's default; in the result, 0
// means no limit.
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
func (q Quota) Validate() (errs FieldErrors) {
	for _, m := range []struct {
		name  string
		value int64
	}{{"subscriptions", int64(q.Subscriptions)}, {"events_per_second", int64(q.EventsPerSecond)}, {"stored_bytes", q.StoredBytes}} {
		if m.value < NoLimit {
			errs.Add("quota."+m.name, FieldOutOfRange, "is %d: give a number from 1, or -1 for no limit", m.value)
		}
	}
	return errs
}

// Usage is the part of its quota that an account uses.
type Usage struct {
	Subscriptions int
	Stored        StoredBytes
}

// ValidAccount reports whether s consists of letters, digits and _ . : @ -, and begins with a
// letter or digit. It is written out for speed, as ValidEventType is.
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

// ValidateAccount validates an account name.
func ValidateAccount(s string) (errs FieldErrors) {
	if !ValidAccount(s) {
		errs.Add("account", FieldInvalid, "%.140q is not an account name: use letters, digits and _ . : @ -, 128 at most", s)
	}
	return errs
}
