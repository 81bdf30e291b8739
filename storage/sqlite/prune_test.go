package sqlite

import (
	"path/filepath"
	"testing"
	"time"

	"switchhook/engine"
)

// TestPrune_KeepsRetriedEvents requests retries between the look at the events and their removal.
func TestPrune_KeepsRetriedEvents(t *testing.T) {
	t.Parallel()
	s := open(t, filepath.Join(t.TempDir(), "test.db"))
	record := func(o *engine.Outcome) {
		t.Helper()
		done := make(chan error, 1)
		s.Record(o, func(err error) { done <- err })
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	for i := 1; i <= 9; i++ {
		if _, err := s.Append(t.Context(), []engine.NewEvent{newEvent(i, 7)}); err != nil {
			t.Fatal(err)
		}
		o := succeeded(engine.ID(i), 7)
		o.State = engine.StateDead
		record(o)
	}
	s.SetWatermark(0, 9)
	retry := func(event engine.ID, state engine.State) {
		record(&engine.Outcome{ID: engine.DeliveryID{Event: event, Subscription: 7}, State: state, Attempts: 1, RenewedAt: time.UnixMilli(1e12), NextAt: time.UnixMilli(1e12)})
	}
	p, err := s.Prune(t.Context(), engine.PruneQuery{Before: 10, Remove: func(string, bool, time.Time) bool {
		if n, _, err := s.CountDeliveries(t.Context(), engine.StateDead, 0); err == nil && n == 9 {
			retry(1, engine.StatePending)
			retry(5, engine.StateRetrying)
			retry(6, engine.StatePending)
		}
		return true
	}})
	if err != nil || p.Events != 6 || p.Unfinished != 3 || p.Last != 9 {
		t.Errorf("%+v, %v", p, err)
	}
	left, _, err := s.Events(t.Context(), engine.EventQuery{Oldest: true})
	if err != nil || len(left) != 3 || left[0].ID != 1 || left[1].ID != 5 || left[2].ID != 6 {
		t.Errorf("%d are left: %v", len(left), err)
	}
	checkStoredBytes(t, s, "after a step")
	if n, err := s.StoredBytes(t.Context(), "acme"); err != nil || p.Bytes != 2*n.Total() {
		t.Errorf("%d bytes removed with 6 events, %+v left of 3, %v", p.Bytes, n, err)
	}
}
