package suggest_test

import (
	"strings"
	"testing"

	"switchhook/scripts/suggest"
)

func TestSuggest_Name(t *testing.T) {
	names := []string{"filter", "transform", "target_url", "event", "events", "id"}
	for wrong, want := range map[string]string{
		"filtr": "filter", "Filter": "filter", "fitler": "filter", "tranform": "transform", "targeturl": "target_url",
		"evnet": "event", "eventz": "event", "zapier_id": "", "x": "", strings.Repeat("filter", 100): "",
	} {
		if got := suggest.Closest(wrong, names); got != want {
			t.Errorf("%.20s: got %q, want %q", wrong, got, want)
		}
	}
}
