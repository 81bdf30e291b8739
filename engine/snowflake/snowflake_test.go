package snowflake

import (
	"testing"
	"time"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func TestIDsOnlyGrow(t *testing.T) {
	now := noon
	m := NewMaker(func() time.Time { return now }, 255, 0)
	last := ID(0)
	for i := range 50_000 {
		switch i {
		case 20_000:
			now = now.Add(-time.Hour) // the clock is set back
		case 30_000:
			now = now.Add(2 * time.Hour)
		}
		id := m.Next()
		if id <= last {
			t.Fatalf("%d came after %d", id, last)
		}
		if node := int64(id) >> sequenceBits & (1<<nodeBits - 1); node != 255 {
			t.Fatalf("node %d", node)
		}
		last = id
	}
	if after := NewMaker(func() time.Time { return noon.Add(-time.Hour) }, 0, last).Next(); after <= last {
		t.Errorf("after a restart with the clock set back: %d <= %d", after, last)
	}
}

func TestIDText(t *testing.T) {
	id := NewMaker(func() time.Time { return noon }, 1, 0).Next()
	text := id.Format("evt")
	if got, ok := Parse("evt", text); !ok || got != id || !id.Time().Equal(noon) {
		t.Errorf("%s: %d %v %s", text, got, ok, id.Time())
	}
	for _, bad := range []string{"", "evt_", "evt", text + "0", text[:len(text)-1], "sub" + text[3:], "evt_" + "zzzzzzzzzzzzz", "evt_0000000000000", "evt_UPPERCASE0000", "EVT" + text[3:], text[:16] + "1"} {
		if _, ok := Parse("evt", bad); ok {
			t.Errorf("%q was taken", bad)
		}
	}
	if FirstAt(noon) > id || FirstAt(noon.Add(time.Millisecond)) <= id {
		t.Error("FirstAt does not bound the ids of its millisecond")
	}
}
