package api_test

import (
	"encoding/json"
	"testing"
	"time"

	"switchhook/server/api"
)

func TestOptional_AbsentNullAndValueSurviveJSON(t *testing.T) {
	t.Parallel()
	type patch struct {
		A api.Optional[string] `json:"a,omitzero"`
		B api.Optional[string] `json:"b,omitzero"`
		C api.Optional[string] `json:"c,omitzero"`
		D api.Optional[string] `json:"d"`
	}
	text, err := json.Marshal(patch{B: api.Null[string](), C: api.Some("")})
	if want := `{"b":null,"c":"","d":null}`; err != nil || string(text) != want {
		t.Fatalf("%s, %v; want %s", text, err, want)
	}
	var p patch
	if err := json.Unmarshal([]byte(`{"b":null,"c":"x"}`), &p); err != nil {
		t.Fatal(err)
	}
	if v, ok := p.C.Get(); !p.A.IsZero() || !p.B.IsNull() || v != "x" || !ok || p.A.Or("y") != "y" {
		t.Errorf("%+v", p)
	}
}

func TestDuration_ShortText(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ in, want string }{
		{`"0s"`, "0s"}, {`"90s"`, "90s"}, {`"1m30s"`, "90s"}, {`"5m"`, "5m"}, {`"300s"`, "5m"}, {`"72h0m0s"`, "72h"},
		{`"1h30m"`, "90m"}, {`"1.5s"`, "1500ms"}, {`90`, "90s"}, {`0.25`, "250ms"}, {`"250us"`, "250us"}, {`"7ns"`, "7ns"},
	} {
		var d api.Duration
		if err := json.Unmarshal([]byte(c.in), &d); err != nil || d.String() != c.want {
			t.Errorf("%s: %q, %v; want %q", c.in, d, err, c.want)
		}
		again, err := api.ParseDuration(d.String())
		if err != nil || again != d {
			t.Errorf("%s: read back as %s, %v", d, again, err)
		}
	}
	for _, in := range []string{`"5"`, `"x"`, `"-1s"`, `-1`, `1e10`, `true`, `[]`, `"1d"`} {
		var d api.Duration
		if err := json.Unmarshal([]byte(in), &d); err == nil {
			t.Errorf("%s is accepted as %s", in, time.Duration(d))
		}
	}
}
