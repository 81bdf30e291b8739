package catalog

import (
	"maps"
	"reflect"
	"slices"
	"strings"

	"switchhook/engine"
	"switchhook/engine/signature"
	"switchhook/engine/target"
)

// dedupKey groups subscriptions that may be duplicates of each other.
type dedupKey struct{ account, url, events string }

func dedupKeyOf(s *engine.Subscription) dedupKey {
	url := s.TargetURL
	if u, err := target.Parse(url); err == nil {
		url = u.String() // normalizes the spelling
	}
	return dedupKey{s.Account, url, strings.Join(slices.Sorted(slices.Values(s.Events)), "\n")}
}

// indexDuplicate replaces old by s in the index of duplicates; either may be nil. The caller holds
// mu.
func (t *subscriptionTable) indexDuplicate(old, s *engine.Subscription) {
	if old != nil {
		key := dedupKeyOf(old)
		left := slices.DeleteFunc(t.duplicates[key], func(other *engine.Subscription) bool { return other.ID == old.ID })
		if t.duplicates[key] = left; len(left) == 0 {
			delete(t.duplicates, key)
		}
	}
	if s != nil && s.Unreadable == nil { // an unreadable one can't be compared
		key := dedupKeyOf(s)
		t.duplicates[key] = append(t.duplicates[key], s)
	}
}

// findDuplicate returns a stored subscription with the same deliveries as s that serves accepts, an
// active one if possible; nil if there is none.
func (t *subscriptionTable) findDuplicate(s *engine.Subscription, serves func(*engine.Subscription) bool) (found *engine.Subscription) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for _, other := range t.duplicates[dedupKeyOf(s)] {
		if (found == nil || other.Active && !found.Active) && sameDeliveries(other, s) && serves(other) {
			found = other
		}
	}
	return found
}

// sameDeliveries reports whether two subscriptions to the same events and target send the same
// requests in the same way. Members that the API does not know must be equal. Active, expiry, names
// and descriptions do not count.
func sameDeliveries(a, b *engine.Subscription) bool {
	return a.Filter == b.Filter && a.FilterScript == b.FilterScript &&
		a.Transform == b.Transform && a.TransformScript == b.TransformScript &&
		a.PayloadFormat == b.PayloadFormat && a.Dialect == b.Dialect && a.Inline == b.Inline && a.Verification.Mode == b.Verification.Mode &&
		maps.Equal(a.Headers, b.Headers) && slices.Equal(signatures(a), signatures(b)) &&
		a.Batch == b.Batch && a.Debounce == b.Debounce && a.Numbered == b.Numbered &&
		(len(a.Client) == 0 && len(b.Client) == 0 || reflect.DeepEqual(a.Client, b.Client)) &&
		slices.Equal(a.Policy.Retries, b.Policy.Retries) && reflect.DeepEqual(withoutRetries(a.Policy), withoutRetries(b.Policy))
}

func signatures(s *engine.Subscription) []signature.Scheme {
	if len(s.Signatures) == 0 {
		return []signature.Scheme{signature.Standard}
	}
	return s.Signatures
}

// withoutRetries returns p without its retry schedule, whose empty list may be nil or not.
func withoutRetries(p engine.Policy) engine.Policy {
	p.Retries = nil
	return p
}
