package scripts

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestWarnings(t *testing.T) {
	for source, want := range map[string]string{
		`e => e.data.n.toLocaleString()`:                                      "",
		`e => e.data.n.toFixed(2)`:                                            "",
		`e => e.data.a.localeCompare(e.data.b)`:                               "",
		`e => f(e.data.a.localeCompare(g(e.data.b)), 2)`:                      "",
		`typeof Intl === "undefined"`:                                         "",
		`e => e.data.n.toLocaleString( )`:                                     "",
		"// é\n  é.toLocaleString('en-US', {style: 'currency'})":              "2:5 toLocaleString",
		`e => e.data.n.toLocaleString(undefined, {maximumFractionDigits: 1})`: "1:15 toLocaleString",
		`new Date().toLocaleDateString()`:                                     "1:12 toLocaleDateString",
		`new Date(e.time).toLocaleTimeString("de")`:                           "1:18 toLocaleTimeString",
		`a.localeCompare(b, undefined, {numeric: true})`:                      "1:3 localeCompare",
		`a.localeCompare(String(b), "sv")`:                                    "1:3 localeCompare",
		"new Intl.NumberFormat('de')\nIntl.Collator":                          "1:5 Intl|2:1 Intl",
	} {
		var got []string
		for _, w := range Warnings(source) {
			name, _, _ := strings.Cut(w.Message, " ")
			got = append(got, fmt.Sprintf("%d:%d %s", w.Line, w.Column, name))
		}
		if strings.Join(got, "|") != want {
			t.Errorf("%s: %v", source, got)
		}
	}
	long := strings.Repeat(".localeCompare(", 4<<10) + strings.Repeat("\n Intl.", 4<<10)
	if began := time.Now(); len(Warnings(long)) != MaxDiagnostics || time.Since(began) > 2*time.Second {
		t.Errorf("%d in %v", len(Warnings(long)), time.Since(began))
	}
}
