package sandbox

import (
	"testing"
	"time"

	"switchhook/scripts"
)

func TestFairQueue_SharesTimeNotTurns(t *testing.T) {
	var q fairQueue
	slow, fast := &scripts.Program{Hash: "slow"}, &scripts.Program{Hash: "fast"}
	id := uint64(0)
	add := func(p *scripts.Program, n int) {
		for range n {
			id++
			q.push(&job{id: id, program: p})
		}
	}
	add(slow, 50)
	add(fast, 100) // came later
	var time100 time.Duration
	for done := 0; done < 100; {
		l := q.first()
		cost := 100 * time.Microsecond
		if l.key == "slow" {
			cost = 10 * time.Millisecond
		} else {
			done++
		}
		time100 += cost
		q.dequeue(l, cost)
	}
	// 10 ms of its own, and about as much of the other program's.
	if time100 > 31*time.Millisecond {
		t.Errorf("100 fast runs waited %s for the slow ones", time100)
	}
	// A program that was idle has no credit, and no job is lost.
	add(fast, 1)
	if l := q.first(); l.key != "slow" && l.given < q.clock {
		t.Errorf("%s comes back at %s, the clock stands at %s", l.key, l.given, q.clock)
	}
	for q.count > 0 {
		q.dequeue(q.first(), time.Millisecond)
	}
	if len(q.byProgram) != 0 || q.first() != nil {
		t.Error("empty program queues remain")
	}
}

func TestFairQueue_ForgetsIdleAccounts(t *testing.T) {
	var q fairQueue
	a, b := &job{id: 1}, &job{id: 2, program: &scripts.Program{Hash: "b"}}
	q.push(a)
	q.push(b)
	q.remove(a)
	q.remove(a)
	if q.count != 1 || q.first().jobs[0] != b {
		t.Errorf("%d wait", q.count)
	}
	q.pushFront([]*job{a})
	if got := q.drain(); len(got) != 2 || q.count != 0 || q.first() != nil {
		t.Errorf("drained %d, %d left", len(got), q.count)
	}
}
