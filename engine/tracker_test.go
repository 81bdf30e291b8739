package engine

import (
	"slices"
	"testing"
	"time"
)

func TestWatermarkStopsBeforeWhatIsNotThrough(t *testing.T) {
	now := noon
	tr := newTracker(func() time.Time { return now }, 3, 0)
	a, b, c := tr.begin(now), tr.begin(now), tr.begin(now)
	expect := func(want ID, why string) {
		t.Helper()
		if got, _ := tr.sweep(time.Time{}); got != want {
			t.Errorf("%s: watermark %d, want %d", why, got, want)
		}
	}
	expect(a.id-1, "nothing is stored")
	tr.stored(b, []ID{7})
	tr.record(b, 0)
	tr.stored(a, []ID{7, 8})
	tr.record(a, 1)
	tr.record(a, 1) // twice is once
	expect(a.id-1, "a has a target without a row")
	tr.record(a, 0)
	expect(c.id-1, "a and b are through")
	tr.abandon(c)
	expect(c.id, "c was never stored")
	d := tr.begin(now)
	tr.stored(d, nil)
	expect(d.id, "an event without targets is through at once")
}

func TestLateEventsAreGivenOnce(t *testing.T) {
	tr := newTracker(func() time.Time { return noon }, 0, 0)
	notStored := tr.begin(noon)
	f := tr.begin(noon)
	tr.stored(f, []ID{1, 2, 3})
	tr.record(f, 1)
	if _, late := tr.sweep(noon.Add(-time.Second)); len(late) != 0 {
		t.Error("late before its time")
	}
	_, late := tr.sweep(noon.Add(time.Second))
	if len(late) != 1 || late[0] != f || !slices.Equal(tr.missing(f), []int{0, 2}) {
		t.Errorf("got %v, missing %v", late, tr.missing(f))
	}
	if _, late := tr.sweep(noon.Add(time.Second)); len(late) != 0 {
		t.Error("given twice")
	}
	tr.stored(notStored, []ID{1})
	if _, late := tr.sweep(noon.Add(time.Second)); len(late) != 1 {
		t.Error("an event that was stored late is never given")
	}
}

func TestIDsOnlyGrow(t *testing.T) {
	now := noon
	m := newIDMaker(func() time.Time { return now }, 255, 0)
	last := ID(0)
	for i := range 50_000 {
		switch i {
		case 20_000:
			now = now.Add(-time.Hour) // the clock is set back
		case 30_000:
			now = now.Add(2 * time.Hour)
		}
		id := m.next()
		if id <= last {
			t.Fatalf("%d came after %d", id, last)
		}
		if node := int64(id) >> sequenceBits & (1<<nodeBits - 1); node != 255 {
			t.Fatalf("node %d", node)
		}
		last = id
	}
	if after := newIDMaker(func() time.Time { return noon.Add(-time.Hour) }, 0, last).next(); after <= last {
		t.Errorf("after a restart with the clock set back: %d <= %d", after, last)
	}
}

func TestIDText(t *testing.T) {
	id := newIDMaker(func() time.Time { return noon }, 1, 0).next()
	text := id.Format(EventPrefix)
	if got, ok := ParseID(EventPrefix, text); !ok || got != id || !id.Time().Equal(noon) {
		t.Errorf("%s: %d %v %s", text, got, ok, id.Time())
	}
	for _, bad := range []string{"", "evt_", "evt", text + "0", text[:len(text)-1], "sub" + text[3:], "evt_" + "zzzzzzzzzzzzz", "evt_0000000000000", "evt_UPPERCASE0000", "EVT" + text[3:], text[:16] + "1"} {
		if _, ok := ParseID(EventPrefix, bad); ok {
			t.Errorf("%q was taken", bad)
		}
	}
	d := DeliveryID{id, id + 1}
	if got, ok := ParseDeliveryID(d.String()); !ok || got != d {
		t.Errorf("%s: %v %v", d, got, ok)
	}
	if FirstIDAt(noon) > id || FirstIDAt(noon.Add(time.Millisecond)) <= id {
		t.Error("FirstIDAt does not bound the ids of its millisecond")
	}
}
