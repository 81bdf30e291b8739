package watermark

import (
	"slices"
	"testing"
	"time"

	"switchhook/engine/snowflake"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func tracker(node int) *Tracker {
	return New(snowflake.NewMaker(func() time.Time { return noon }, node, 0), 0)
}

func TestTracker_WatermarkStopsBeforeMissingRows(t *testing.T) {
	tr := tracker(3)
	a, b, c := tr.Begin("a", noon), tr.Begin("a", noon), tr.Begin("a", noon)
	expect := func(want snowflake.ID, why string) {
		t.Helper()
		if got, _ := tr.Sweep(time.Time{}); got != want {
			t.Errorf("%s: watermark %d, want %d", why, got, want)
		}
	}
	expect(a.ID-1, "nothing is stored")
	tr.Stored(b, []snowflake.ID{7})
	tr.Record(b, 0)
	tr.Stored(a, []snowflake.ID{7, 8})
	tr.Record(a, 1)
	tr.Record(a, 1) // twice is once
	expect(a.ID-1, "a has a target without a row")
	tr.Record(a, 0)
	expect(c.ID-1, "a and b are through")
	tr.Abandon(c)
	expect(c.ID, "c was never stored")
	d := tr.Begin("a", noon)
	tr.Stored(d, nil)
	expect(d.ID, "an event without targets is through at once")
}

func TestTracker_LateEventsAreReturnedOnce(t *testing.T) {
	tr := tracker(0)
	notStored := tr.Begin("a", noon)
	f := tr.Begin("a", noon)
	tr.Stored(f, []snowflake.ID{1, 2, 3})
	tr.Record(f, 1)
	if _, late := tr.Sweep(noon.Add(-time.Second)); len(late) != 0 {
		t.Error("late before its time")
	}
	_, late := tr.Sweep(noon.Add(time.Second))
	if len(late) != 1 || late[0] != f || !slices.Equal(tr.Missing(f), []int{0, 2}) {
		t.Errorf("got %v, missing %v", late, tr.Missing(f))
	}
	if _, late := tr.Sweep(noon.Add(time.Second)); len(late) != 0 {
		t.Error("given twice")
	}
	tr.Stored(notStored, []snowflake.ID{1})
	if _, late := tr.Sweep(noon.Add(time.Second)); len(late) != 1 {
		t.Error("an event that was stored late is never given")
	}
}

func TestTracker_QueuedUpTo(t *testing.T) {
	tr := tracker(0)
	a, b, c := tr.Begin("a", noon), tr.Begin("a", noon), tr.Begin("a", noon)
	expect := func(queued ...bool) {
		t.Helper()
		for i, ev := range []*Event{a, b, c} {
			if got := tr.QueuedUpTo("a", ev.ID); got != queued[i] {
				t.Errorf("up to event %d: %v", i, got)
			}
		}
	}
	expect(false, false, false)
	b.Queued()
	expect(false, false, false)
	a.Queued()
	expect(true, true, false)
	if !tr.QueuedUpTo("b", c.ID) {
		t.Error("another account waits for it")
	}
	tr.Abandon(c)
	expect(true, true, true)
	if tr.Sweep(noon); len(tr.coming) != 0 {
		t.Errorf("%d accounts are remembered", len(tr.coming))
	}
}
