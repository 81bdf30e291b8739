package cmd

import (
	"encoding/json"
	"testing"
)

func TestSend_LineOfAFileKeepsDigitsAndMembers(t *testing.T) {
	c := &sendCommand{Account: "acme"}
	line := `{"type":"a","data":{"n":9007199254740993},"id":"1","time":"2026-01-31T09:30:00Z","headers":{"x":"y"}}`
	ev, err := c.eventOfLine([]byte(line))
	if err != nil {
		t.Fatal(err)
	}
	got, err := json.Marshal(ev)
	want := `{"type":"a","data":{"n":9007199254740993},"id":"1","account":"acme","time":"2026-01-31T09:30:00Z","headers":{"x":"y"}}`
	if err != nil || string(got) != want {
		t.Errorf("%s, %v; want %s", got, err, want)
	}
	for _, bad := range []string{`{"type":"a"}`, `{"data":1}`, `{"type":"a","data":`} {
		if _, err := c.eventOfLine([]byte(bad)); err == nil {
			t.Errorf("%s is accepted", bad)
		}
	}
}
