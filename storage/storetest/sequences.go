package storetest

import (
	"slices"
	"sync"

	"switchhook/engine"
)

var sequences = []check{
	{"sequences: no gap", func(t *suite) {
		first := event(5, 7, 9)
		results, err := t.s.Append(t.ctx(), []engine.NewEvent{
			{Event: first, Numbered: []int{0, 2}}, {Event: event(7)}, {Event: event(9), Numbered: []int{0}}, {Event: event(5, 9), Numbered: []int{1}},
		})
		t.must(err)
		t.equal("numbers", [][]int64{results[0].Sequences, results[1].Sequences, results[2].Sequences, results[3].Sequences}, [][]int64{{1, 0, 1}, nil, {2}, {0, 3}})
		got, err := t.s.Event(t.ctx(), "", first.ID)
		t.must(err)
		first.Sequences = []int64{1, 0, 1}
		t.equal("event", got, first)
		list, _, err := t.s.Events(t.ctx(), engine.EventQuery{})
		t.must(err)
		t.equal("listed", list[len(list)-1], first)
	}},
	{"sequences: no gap after repeats, conflicts and failures", func(t *suite) {
		number := func(e *engine.Event, key byte, digest byte) ([]engine.Appended, error) {
			return t.s.Append(t.ctx(), []engine.NewEvent{{Event: event(5), Numbered: []int{0}}, {Event: e, Keys: []engine.KeyHash{{key}}, Digest: engine.KeyHash{digest}, Numbered: []int{0}}})
		}
		results, err := number(event(5), 1, 1)
		t.must(err)
		taken := results[0].ID
		t.equal("numbers", []int64{results[0].Sequences[0], results[1].Sequences[0]}, []int64{1, 2})
		_, err = number(event(5), 1, 2) // other content
		t.code(err, engine.CodeConflict)
		results, err = number(event(5), 1, 1) // a repeat
		t.must(err)
		t.equal("numbers", []any{results[0].Sequences, results[1].Sequences, results[1].Repeated}, []any{[]int64{3}, []int64(nil), true})
		double := event(5)
		double.ID = taken // cannot be stored
		if _, err = number(double, 9, 9); err == nil {
			t.Fatal("an id was stored twice")
		}
		results, err = number(event(5), 8, 8)
		t.must(err)
		t.equal("numbers", []int64{results[0].Sequences[0], results[1].Sequences[0]}, []int64{4, 5})
	}},
	{"sequences: continue after restart, match commits", func(t *suite) {
		for range 3 {
			_, err := t.s.Append(t.ctx(), []engine.NewEvent{{Event: event(5), Numbered: []int{0}}})
			t.must(err)
		}
		t.s = t.reopen()
		var mu sync.Mutex
		var numbers []int64
		var wait sync.WaitGroup
		for i := range 60 {
			wait.Go(func() {
				n := engine.NewEvent{Event: event(5, 6), Numbered: []int{0}}
				if i%6 == 0 {
					n.Numbered = nil
				}
				results, err := t.s.Append(t.ctx(), []engine.NewEvent{n})
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					t.Error(err)
				} else if n.Numbered != nil {
					numbers = append(numbers, results[0].Sequences[0])
				}
			})
		}
		wait.Wait()
		slices.Sort(numbers)
		for i, n := range numbers {
			t.equal("number", n, int64(i+4))
		}
		t.equal("how many", len(numbers), 50)
	}},
	{"sequences: shown by deliveries with and without a row", func(t *suite) {
		e := event(5, 7, 9)
		_, err := t.s.Append(t.ctx(), []engine.NewEvent{{Event: event(9), Numbered: []int{0}}, {Event: e, Numbered: []int{0, 2}}})
		t.must(err)
		shows := func(want ...int64) {
			t.Helper()
			for i, target := range []engine.ID{5, 7, 9} {
				t.equal("number", t.delivery(id(e, target)).Sequence, want[i])
			}
			list, _, err := t.s.Deliveries(t.ctx(), engine.DeliveryQuery{Event: e.ID})
			t.must(err)
			t.equal("listed", []int64{list[0].Sequence, list[1].Sequence, list[2].Sequence}, []int64{want[2], want[1], want[0]})
		}
		shows(1, 0, 2)
		t.record(tried(id(e, 5), engine.StateSucceeded, 1, 200))
		shows(1, 0, 2)
		t.record(failed(id(e, 9), 1, base), tried(id(e, 7), engine.StateDead, 1, 500))
		shows(1, 0, 2)
	}},
}

var secrets = []check{
	{"secrets: first value is stored", func(t *suite) {
		for range 2 {
			for _, c := range []struct{ name, want string }{{"a", "first\x00\xff"}, {"b", "other"}} {
				got, err := t.s.Secret(t.ctx(), c.name, []byte(c.want))
				t.must(err)
				t.equal(c.name, got, []byte(c.want))
				got, err = t.s.Secret(t.ctx(), c.name, []byte("late"))
				t.must(err)
				t.equal(c.name, got, []byte(c.want))
			}
			t.s = t.reopen()
		}
	}},
}
