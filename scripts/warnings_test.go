package scripts

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestWarnings(t *testing.T) {
	cases := []struct{ source, want string }{
		{`e => e.data.n.toLocaleString()`, ""},
		{`e => e.data.n.toFixed(2)`, ""},
		{`e => e.data.a.localeCompare(e.data.b)`, ""},
		{`e => f(e.data.a.localeCompare(g(e.data.b)), 2)`, ""},
		{`typeof Intl === "undefined"`, ""},
		{`e => e.data.n.toLocaleString( )`, ""},
		{"// é\n  é.toLocaleString('en-US', {style: 'currency'})", "2:5 toLocaleString"},
		{`e => e.data.n.toLocaleString(undefined, {maximumFractionDigits: 1})`, "1:15 toLocaleString"},
		{`new Date().toLocaleDateString()`, "1:12 toLocaleDateString"},
		{`new Date(e.time).toLocaleTimeString("de")`, "1:18 toLocaleTimeString"},
		{`a.localeCompare(b, undefined, {numeric: true})`, "1:3 localeCompare"},
		{`a.localeCompare(String(b), "sv")`, "1:3 localeCompare"},
		{"new Intl.NumberFormat('de')\nIntl.Collator", "1:5 Intl|2:1 Intl"},
	}
	for _, c := range cases {
		var got []string
		for _, w := range Warnings(c.source) {
			name, _, _ := strings.Cut(w.Message, " ")
			got = append(got, fmt.Sprintf("%d:%d %s", w.Line, w.Column, name))
		}
		if strings.Join(got, "|") != c.want {
			t.Errorf("%s: %v", c.source, got)
		}
	}
	long := strings.Repeat(".localeCompare(", 4<<10) + strings.Repeat("\n Intl.", 4<<10)
	if began := time.Now(); len(Warnings(long)) != MaxDiagnostics || time.Since(began) > 2*time.Second {
		t.Errorf("%d in %v", len(Warnings(long)), time.Since(began))
	}
}
