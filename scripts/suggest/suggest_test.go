package suggest_test

import (
	"strings"
	"testing"

	"switchhook/scripts/suggest"
)

func TestSuggest_Name(t *testing.T) {
	names := []string{"filter", "transform", "target_url", "event", "events", "id"}
	cases := []struct{ wrong, want string }{
		{"filtr", "filter"}, {"Filter", "filter"}, {"fitler", "filter"}, {"tranform", "transform"}, {"targeturl", "target_url"},
		{"evnet", "event"}, {"eventz", "event"}, {"zapier_id", ""}, {"x", ""}, {strings.Repeat("filter", 100), ""},
	}
	for _, c := range cases {
		if got := suggest.Closest(c.wrong, names); got != c.want {
			t.Errorf("%.20s: got %q, want %q", c.wrong, got, c.want)
		}
	}
}
