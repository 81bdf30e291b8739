package engine

import (
	"testing"
	"time"

	"switchhook/engine/snowflake"
)

func TestDeliveryID_Text(t *testing.T) {
	id := snowflake.FirstAt(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))
	d := DeliveryID{id, id + 1}
	text := d.String()
	if got, ok := ParseDeliveryID(text); !ok || got != d {
		t.Errorf("%s: %v %v", d, got, ok)
	}
	for _, bad := range []string{"", "dlv_", text[:len(text)-1], text + "0", "evt" + text[3:], d.Event.Format(DeliveryPrefix)} {
		if _, ok := ParseDeliveryID(bad); ok {
			t.Errorf("%q was taken", bad)
		}
	}
}
