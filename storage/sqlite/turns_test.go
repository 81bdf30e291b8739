package sqlite

import (
	"fmt"
	"strings"
	"testing"

	"switchhook/engine"
)

// waitingAppends are Appends in a queue, each named by its account and number of events.
type waitingAppends struct {
	*testing.T
	q *queue
}

func (w waitingAppends) push(account string, events, times int) {
	for range times {
		list := make([]engine.NewEvent, events)
		for i := range list {
			list[i].Event = &engine.Event{Account: account}
		}
		if err := w.q.push(w.Context(), request{call: &call{events: list, work: appendWork(list)}}); err != nil {
			w.Fatal(err)
		}
	}
}

// commit returns what the next commit holds.
func (w waitingAppends) commit() string {
	var names []string
	for _, r := range w.q.take(nil) {
		switch {
		case r.o != nil:
			names = append(names, "outcome")
		case r.call.do != nil:
			names = append(names, "change")
		default:
			names = append(names, fmt.Sprint(r.call.events[0].Event.Account, len(r.call.events)))
		}
	}
	return strings.Join(names, " ")
}

func (w waitingAppends) expect(commits ...string) {
	w.Helper()
	for _, want := range commits {
		if got := w.commit(); got != want {
			w.Errorf("a commit holds %q, want %q", got, want)
		}
	}
	if items, calls, _ := w.q.counts(); items+calls > 0 && len(commits) > 0 && commits[len(commits)-1] == "" {
		w.Errorf("%d items wait", items)
	}
}

func TestQueue_LongListsLetOthersPass(t *testing.T) {
	w := waitingAppends{t, newQueue()}
	w.push("many", 1000, 3)
	w.expect("many1000")
	w.push("few", 1, 2)
	w.expect("few1 few1", "many1000")
	w.push("few", 1, 1)
	w.push("also", 1000, 1)
	// The lists of an account do not wait for ever, either.
	w.expect("few1", "many1000", "also1000", "")
}

func TestQueue_AccountsShareACommit(t *testing.T) {
	w := waitingAppends{t, newQueue()}
	w.push("many", 250, 4)
	w.push("few", 100, 2)
	w.push("one", 1, 1)
	w.expect("many250 few100 few100 one1")
	w.push("one", 1, 1)
	w.expect("many250 many250 one1", "many250", "")
}

func TestQueue_OnlyAppendsWaitForTheirTurn(t *testing.T) {
	w := waitingAppends{t, newQueue()}
	w.push("many", 1000, 2)
	for range 3 {
		w.q.push(t.Context(), request{outcome: outcome{o: &engine.Outcome{}}})
		w.q.push(t.Context(), request{call: &call{do: func(*tx) error { return nil }}})
	}
	w.expect("many1000 outcome change outcome change outcome change", "many1000", "")
}

func TestQueue_OrdinaryEventsGoTogether(t *testing.T) {
	w := waitingAppends{t, newQueue()}
	for i := range 200 {
		w.push(fmt.Sprint(i%3), 1, 1)
	}
	w.expect(strings.TrimSuffix(strings.Repeat("01 11 21 ", 67), " 21 "), "")
}
