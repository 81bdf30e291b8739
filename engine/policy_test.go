package engine

import (
	"testing"
	"time"
)

func TestDefaultRetrySchedule_SpansThreeDays(t *testing.T) {
	var sum time.Duration
	for _, d := range DefaultRetrySchedule {
		sum += d
	}
	if want := 75*time.Hour + 35*time.Minute + 5*time.Second; sum != want || len(DefaultRetrySchedule) != 10 {
		t.Errorf("%d attempts in %s", len(DefaultRetrySchedule), sum)
	}
}
