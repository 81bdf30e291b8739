package catalog

import (
	"fmt"
	"testing"
	"time"

	"switchhook/engine"
)

func TestExpiryQueue_MovedDeadlineCountsOnce(t *testing.T) {
	now := time.Now()
	x := &expiryQueue{}
	for i := range 1000 {
		for id := range 3 {
			x.add(&engine.Subscription{ID: engine.ID(id + 1), ExpiresAt: now.Add(time.Duration((i*(7+id))%100) * time.Second)})
		}
	}
	x.add(&engine.Subscription{ID: 1, ExpiresAt: now.Add(3 * time.Hour)})
	x.add(&engine.Subscription{ID: 2, ExpiresAt: now.Add(time.Hour)})
	x.add(&engine.Subscription{ID: 3})
	if len(x.next) != 2 {
		t.Errorf("%d deadlines of two", len(x.next))
	}
	if _, ok := x.due(now.Add(time.Minute)); ok {
		t.Error("one is due too early")
	}
	for _, want := range []engine.ID{2, 1} {
		if id, ok := x.due(now.Add(4 * time.Hour)); !ok || id != want {
			t.Errorf("%v %v, not %v", id, ok, want)
		}
	}
	if len(x.next) != 0 {
		t.Error("one is left")
	}
}

func BenchmarkExpiryQueue(b *testing.B) {
	now := time.Now()
	x := &expiryQueue{}
	for i := range 10_000 {
		x.add(&engine.Subscription{ID: engine.ID(i + 1), ExpiresAt: now.Add(time.Hour + time.Duration(i)*time.Second)})
	}
	b.ResetTimer()
	for b.Loop() {
		if _, ok := x.due(now); ok {
			b.Fatal(fmt.Sprint("due at ", now))
		}
	}
}
