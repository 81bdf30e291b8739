package sandbox

import (
	"fmt"
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
		time100 += q.run(map[string]time.Duration{"slow": 10 * time.Millisecond, "fast": 100 * time.Microsecond}, func(j *job) {
			if j.key() == "fast" {
				done++
			}
		})
	}
	// 10 ms of its own, and about as much of the other program's.
	if time100 > 31*time.Millisecond {
		t.Errorf("100 fast runs waited %s for the slow ones", time100)
	}
	// A program that was idle has no credit, and no job is lost.
	add(fast, 1)
	if a := q.accounts[""]; a.programs["fast"].given < a.clock {
		t.Errorf("it comes back at %s, the clock stands at %s", a.programs["fast"].given, a.clock)
	}
	for q.count > 0 {
		q.run(nil, func(*job) {})
	}
	if len(q.accounts) != 0 || q.first() != nil {
		t.Error("empty queues remain")
	}
}

// run assigns and ends the first job. It returns the time it took, by the hash of its program.
func (q *fairQueue) run(takes map[string]time.Duration, done func(*job)) time.Duration {
	j := q.first()
	q.assign(j, j.estimate.cost()) // not known
	q.settle(j, takes[j.key()])
	done(j)
	return takes[j.key()]
}

func TestFairQueue_SharesTimeByAccount(t *testing.T) {
	const quick, long, compiling = 100 * time.Microsecond, 10 * time.Millisecond, 200 * time.Millisecond
	takes := map[string]time.Duration{"": compiling, "good": quick}
	for _, c := range []struct {
		name    string
		hostile func(i int) *scripts.Program
	}{
		{"380 programs", func(i int) *scripts.Program { return &scripts.Program{Hash: fmt.Sprint(i)} }},
		{"slow compilations", func(int) *scripts.Program { return nil }},
	} {
		t.Run(c.name, func(t *testing.T) {
			var q fairQueue
			for i := range 380 {
				takes[fmt.Sprint(i)] = long
				q.push(&job{id: uint64(i), account: "hostile", program: c.hostile(i)})
			}
			q.run(takes, func(*job) {})
			// 100 runs of another account, each after the answer of the one before.
			others := 0
			for i := range 100 {
				q.push(&job{id: uint64(1000 + i), account: "good", program: &scripts.Program{Hash: "good"}})
				for answered := false; !answered; {
					q.run(takes, func(j *job) {
						answered = j.account == "good"
						if !answered {
							others++
						}
					})
				}
			}
			if others > 2 { // 10 ms of its own time
				t.Errorf("it waited for %d runs of the other account", others)
			}
		})
	}
}

func TestFairQueue_ChildrenThatEndAreCharged(t *testing.T) {
	var q fairQueue
	kills, runs := &job{id: 1, account: "kills"}, &job{id: 2, account: "runs"}
	q.push(kills)
	q.push(runs)
	q.assign(kills, costUnknown)
	q.assign(runs, costUnknown)
	next := []*job{{id: 3, account: "kills"}, {id: 4, account: "runs"}}
	q.push(next[0])
	q.push(next[1])
	q.settle(kills, processCost)
	q.pushFront([]*job{runs}) // its child was ended: it took nothing
	if j := q.first(); j != runs || q.accounts["runs"].given != 0 {
		t.Errorf("%d is next; %s were charged", j.id, q.accounts["runs"].given)
	}
}

func TestFairQueue_ForgetsIdleAccounts(t *testing.T) {
	var q fairQueue
	a, b := &job{id: 1}, &job{id: 2, program: &scripts.Program{Hash: "b"}}
	q.push(a)
	q.push(b)
	q.remove(a)
	q.remove(a)
	if q.count != 1 || q.first() != b {
		t.Errorf("%d wait", q.count)
	}
	q.push(a)
	q.assign(a, time.Second)
	q.pushFront([]*job{a}) // its child gave it back
	if got := q.drain(); len(got) != 2 || q.count != 0 || q.first() != nil || len(q.accounts) != 0 {
		t.Errorf("drained %d, %d left", len(got), q.count)
	}
}
