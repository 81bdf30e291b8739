package scripttest

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Cases also come from the API: parsing any input ends, and parsed cases survive a round
// trip through JSON.
func FuzzParseCases(f *testing.F) {
	f.Add([]byte(`[` + oneCase + `]`))
	f.Add([]byte(`[{"name":"a","event":{"type":"a.b","time":"2026-02-03T04:05:06Z","headers":{"X":"y"},"data":[1e999]},"expect":{"matches":true,"body":null,"query":{"a":["1"]},"dropped":"x","error":{"phase":"run","line":3},"console":[]}}]`))
	f.Fuzz(func(t *testing.T, text []byte) {
		cases, err := ParseCases(text)
		if err != nil {
			return
		}
		out, err := json.Marshal(cases)
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseCases(out)
		if err != nil || len(again) != len(cases) {
			t.Fatalf("%v: %s", err, out)
		}
		for i := range cases {
			if diff := cmp.Diff(cases[i].Expect.Headers, again[i].Expect.Headers); diff != "" || again[i].Name != cases[i].Name || !equal(generic(again[i]), generic(cases[i])) {
				t.Errorf("%s became %s\n%s", text, out, diff)
			}
		}
	})
}
