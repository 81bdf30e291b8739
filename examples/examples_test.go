// Package examples_test keeps the examples and the README from rotting: it runs the
// scripts' cases, the programs against a real router, and the README's commands.
package examples_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"switchhook/scripts"
	"switchhook/scripts/filter"
	"switchhook/scripts/sandbox"
)

func TestMain(m *testing.M) {
	sandbox.RunIfChild()
	os.Exit(m.Run())
}

// suite is a cases.test.json.
type suite struct {
	Cases []scriptCase `json:"script cases"`
}

type scriptCase struct {
	Name  string `json:"name"`
	Event struct {
		ID      string            `json:"id"`
		Type    string            `json:"type"`
		Time    time.Time         `json:"time"`
		Headers map[string]string `json:"headers"`
		Data    json.RawMessage   `json:"data"`
	} `json:"event"`
	Expect struct {
		Matches *bool             `json:"matches"`
		Body    json.RawMessage   `json:"body"`
		Headers map[string]string `json:"headers"`
		Dropped *string           `json:"dropped"`
		Error   string            `json:"error"`
	} `json:"expect"`
}

// script is an example's filter and transform; each may be missing.
type script struct {
	pool    *sandbox.Pool
	filter  *filter.Filter
	program *scripts.Program
}

func TestScriptsDoWhatTheirCasesSay(t *testing.T) {
	pool, err := sandbox.Start(sandbox.Config{Processes: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	folders, err := filepath.Glob("scripts/*/cases.test.json")
	if err != nil || len(folders) < 4 {
		t.Fatal("examples are missing", folders, err)
	}
	for _, file := range folders {
		folder := filepath.Dir(file)
		t.Run(filepath.Base(folder), func(t *testing.T) {
			var cases suite
			strictJSON(t, read(t, file), &cases)
			s := compile(t, pool, folder)
			for _, c := range cases.Cases {
				t.Run(c.Name, func(t *testing.T) { s.check(t, c) })
			}
		})
	}
}

func compile(t *testing.T, pool *sandbox.Pool, folder string) script {
	t.Helper()
	s := script{pool: pool}
	var err error
	if s.filter, err = filter.Compile(strings.TrimSpace(string(read(t, filepath.Join(folder, "filter.expr"))))); err != nil {
		t.Fatalf("filter.expr: %s", explain(err))
	}
	for _, name := range []string{"transform.js", "transform.ts"} {
		source, err := os.ReadFile(filepath.Join(folder, name))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if s.program, err = pool.Compile(t.Context(), string(source)); err != nil {
			t.Fatalf("%s: %s", name, explain(err))
		}
	}
	return s
}

// check runs a case. An event comes to the transform only through the filter, as in the
// router.
func (s script) check(t *testing.T, c scriptCase) {
	ev := &scripts.Event{ID: c.Event.ID, Type: c.Event.Type, Account: "default", Time: c.Event.Time, Received: c.Event.Time, Headers: c.Event.Headers, Data: c.Event.Data}
	in := filter.NewInput(ev)
	defer in.Release()
	matched, err := s.filter.Match(in)
	want := c.Expect
	if want.Matches != nil {
		if err != nil || matched != *want.Matches {
			t.Errorf("the filter says %v (%v), wanted %v", matched, err, *want.Matches)
		}
		return
	}
	var got scripts.Result
	if err == nil && !matched {
		t.Fatal("the filter keeps this event back, so nothing else can come of it")
	}
	if err == nil && s.program != nil {
		got, err = s.pool.Run(t.Context(), s.program, ev, scripts.Request{Method: "POST", Path: "/hook"})
	}
	switch {
	case want.Error != "":
		if err == nil || !strings.Contains(err.Error(), want.Error) {
			t.Errorf("error is %v, wanted one with %q", err, want.Error)
		}
	case err != nil:
		t.Error(explain(err))
	case want.Dropped != nil:
		if !got.Dropped || got.DropReason != *want.Dropped {
			t.Errorf("dropped: %v, reason %q; wanted the reason %q", got.Dropped, got.DropReason, *want.Dropped)
		}
	case got.Dropped:
		t.Errorf("dropped: %s", got.DropReason)
	case want.Body == nil:
		t.Error("this case expects nothing: give matches, body, dropped or error")
	default:
		if diff := difference(want.Body, got.Body); diff != "" {
			t.Errorf("the body differs (- wanted, + got):\n%s", diff)
		}
		for name, value := range want.Headers {
			if got.Request == nil || got.Request.Headers[http.CanonicalHeaderKey(name)] != value {
				t.Errorf("header %s is missing or differs from %q: %+v", name, value, got.Request)
			}
		}
	}
}

// TestLedgerEntriesHaveAnAddressOfTheirOwn is about the request line, which cases don't
// speak of.
func TestLedgerEntriesHaveAnAddressOfTheirOwn(t *testing.T) {
	pool, err := sandbox.Start(sandbox.Config{Processes: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	const folder = "scripts/stripe-invoice-to-ledger"
	s := compile(t, pool, folder)
	var cases suite
	strictJSON(t, read(t, folder+"/cases.test.json"), &cases)
	ev := &scripts.Event{Type: "invoice.paid", Data: cases.Cases[0].Event.Data}
	for target, want := range map[string]string{"/": "/in_1Lighthouse", "/ledger": "/ledger/in_1Lighthouse", "/ledger/": "/ledger/in_1Lighthouse"} {
		got, err := pool.Run(t.Context(), s.program, ev, scripts.Request{Method: "POST", Path: target})
		if err != nil {
			t.Fatal(explain(err))
		}
		if got.Request == nil || got.Request.Method != "PUT" || got.Request.Path != want {
			t.Errorf("%s: %+v, wanted PUT %s", target, got.Request, want)
		}
	}
}

// explain shows a script's error with its place.
func explain(err error) string {
	if e, ok := errors.AsType[*scripts.Error](err); ok {
		return e.Error() + "\n" + e.Snippet + "\n" + strings.Join(e.Console, "\n")
	}
	return err.Error()
}

// difference compares JSON values, numbers by their digits; "" where they are equal. A
// body that is no JSON is compared with the text that a wanted string holds.
func difference(want, got []byte) string {
	w, g := decoded(want), decoded(got)
	if text, ok := w.(string); ok && g == nil {
		g = string(got)
		w = text
	}
	if reflect.DeepEqual(w, g) {
		return ""
	}
	return lineDiff(pretty(w), pretty(g))
}

func decoded(text []byte) (v any) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber() // 90071992547409931 must not become …30
	if d.Decode(&v) != nil {
		return nil
	}
	return v
}

func pretty(v any) []string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		return []string{err.Error()}
	}
	return strings.Split(strings.TrimSpace(b.String()), "\n")
}

// lineDiff marks what is in one text only, by the longest common subsequence of lines.
func lineDiff(a, b []string) string {
	common := make([][]int, len(a)+1)
	for i := range common {
		common[i] = make([]int, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i] == b[j] {
				common[i][j] = common[i+1][j+1] + 1
			} else {
				common[i][j] = max(common[i+1][j], common[i][j+1])
			}
		}
	}
	var out strings.Builder
	for i, j := 0, 0; i < len(a) || j < len(b); {
		switch {
		case i < len(a) && j < len(b) && a[i] == b[j]:
			fmt.Fprintf(&out, "  %s\n", a[i])
			i, j = i+1, j+1
		case j == len(b) || i < len(a) && common[i+1][j] >= common[i][j+1]:
			fmt.Fprintf(&out, "- %s\n", a[i])
			i++
		default:
			fmt.Fprintf(&out, "+ %s\n", b[j])
			j++
		}
	}
	return out.String()
}

func TestDifferencesAreShownLineByLine(t *testing.T) {
	got := difference([]byte(`{"a":1,"b":[9007199254740993],"c":"x"}`), []byte(`{"a":1,"b":[9007199254740992],"c":"x"}`))
	want := "  {\n    \"a\": 1,\n    \"b\": [\n-     9007199254740993\n+     9007199254740992\n    ],\n    \"c\": \"x\"\n  }\n"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := difference([]byte(`"plain text"`), []byte(`plain text`)); got != "" {
		t.Error(got)
	}
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func strictJSON(t *testing.T, text []byte, into any) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		t.Fatal(err)
	}
}
