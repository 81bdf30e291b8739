package sqlite

import (
	"cmp"
	"slices"

	"switchhook/engine"
)

// maxAppendWork is how much work of Appends, in rows, a commit holds before others have to wait for
// their turn: about 10 ms. All single events that are published at the same time fit in.
const maxAppendWork = 600

// rowWorkBytes is about how many bytes take as long as a row.
const rowWorkBytes = 2560

// appendWork returns about how much work it is to store events, in rows.
func appendWork(events []engine.NewEvent) int64 {
	work := 0
	for i := range events {
		n := &events[i]
		work += 1 + len(n.Keys) + len(n.Names) + len(n.Numbered) + len(n.Event.Data)/rowWorkBytes
	}
	return int64(work)
}

// turns decide which Appends the next commit holds if they are too much for one, so that an account
// with many or with long lists delays its own. A list is stored in one commit, so one that is too
// long for a commit has it alone, and after that the next one is for others.
type turns struct {
	work    int64            // of all Appends that wait
	commits int64            // so far that were too small for all
	served  map[string]int64 // account whose Appends wait → the commit that held one of them last
	long    bool             // the last commit held a list that is too long
}

func (t *turns) reset() { t.work, t.long = 0, false; clear(t.served) }

// accountTurn is an account's Appends that wait.
type accountTurn struct {
	name    string
	served  int64
	waiting []int // positions
}

// split divides items into those of the next commit and those that wait. rest is empty; its memory is
// used for the latter. Only Appends wait: they do not depend on each other, nor anything on them.
func (t *turns) split(items, rest []request) (taken, waiting []request) {
	t.commits++
	chosen := make([]bool, len(items))
	t.choose(items, chosen)
	n := 0
	for i, r := range items {
		if r.call == nil || r.call.work == 0 || chosen[i] {
			items[n] = r
			n++
		} else {
			rest = append(rest, r)
		}
	}
	clear(items[n:])
	return items[:n], rest
}

// choose marks the Appends of the next commit: one of each account in turn, as long as they fit.
func (t *turns) choose(items []request, chosen []bool) {
	accounts := t.accounts(items)
	left := int64(maxAppendWork)
	take := func(a *accountTurn) {
		i := a.waiting[0]
		chosen[i], a.waiting = true, a.waiting[1:]
		t.served[a.name] = t.commits
		t.work -= items[i].call.work
		left -= items[i].call.work
	}
	for found, begins := true, !t.long; found; begins = false {
		found = false
		for i, a := range accounts {
			if len(a.waiting) > 0 && (items[a.waiting[0]].call.work <= left || begins && i == 0) {
				take(a)
				found = true
			}
		}
	}
	if left == maxAppendWork { // there are only long ones
		take(accounts[0])
	}
	t.long = left < 0
}

// accounts returns the accounts whose Appends wait: first those that had none in the last commits.
func (t *turns) accounts(items []request) []*accountTurn {
	var list []*accountTurn
	byName := map[string]*accountTurn{}
	for i, r := range items {
		if r.call == nil || r.call.work == 0 {
			continue
		}
		name := r.call.events[0].Event.Account
		a := byName[name]
		if a == nil {
			served, known := t.served[name]
			if !known {
				served = t.commits - 1
			}
			a = &accountTurn{name: name, served: served}
			byName[name], list = a, append(list, a)
		}
		a.waiting = append(a.waiting, i)
	}
	t.served = make(map[string]int64, len(list))
	for _, a := range list {
		t.served[a.name] = a.served
	}
	slices.SortStableFunc(list, func(a, b *accountTurn) int { return cmp.Compare(a.served, b.served) })
	return list
}
