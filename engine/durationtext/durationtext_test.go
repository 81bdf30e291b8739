package durationtext

import (
	"testing"
	"time"
)

func TestFormat_LargestUnit(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", 90 * time.Second: "90s", 5 * time.Minute: "5m", 72 * time.Hour: "72h", 1500 * time.Millisecond: "1500ms", 7: "7ns", -time.Minute: "-1m",
	} {
		if got := Format(d); got != want {
			t.Errorf("%d: got %q, want %q", d, got, want)
		}
	}
}
