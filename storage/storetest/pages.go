package storetest

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"

	"switchhook/engine"
)

// pages are the checks of lists that end at a number of bytes.
var pages = []check{
	{"pages: events end at their bytes", func(t *suite) {
		sizes := t.randomSizes(60)
		var want []engine.ID
		for i, size := range sizes {
			e := event()
			e.Account, e.Type, e.Data = []string{"acme", "other"}[i%2], []string{"a", "b"}[i%3%2], blob(size)
			t.append(e)
			if e.Type == "a" {
				want = append(want, e.ID)
			}
		}
		for _, oldest := range []bool{true, false} {
			t.bounded("events", want, func(after engine.ID, maxBytes int64) (list []engine.ID, sizes []int, next engine.ID) {
				q := engine.EventQuery{Type: "a", Oldest: oldest, MaxBytes: maxBytes, Before: after}
				if oldest {
					q.Since, q.Before = after+1, 0
				}
				found, next, err := t.s.Events(t.ctx(), q)
				t.must(err)
				for _, e := range found {
					list, sizes = append(list, e.ID), append(sizes, len(e.Data))
				}
				return list, sizes, next
			})
			slices.Reverse(want)
		}
	}},
	{"pages: attempts and versions end at their bytes", func(t *suite) {
		e := event(1)
		t.append(e)
		c := script()
		t.must(t.s.PutScript(t.ctx(), c))
		var want []engine.ID
		for i, size := range t.randomSizes(40) {
			o := failed(id(e, 1), i+1, base)
			o.Attempt.Request.Headers = []engine.Header{{Name: "A", Value: string(blob(size))}}
			o.Attempt.Request.Plain, o.Attempt.Request.Body = "", blob(5000) // is not read
			t.record(o)
			t.must(t.s.PutScriptVersion(t.ctx(), &engine.ScriptVersion{Script: c.ID, Number: i + 1, Source: string(blob(size)), CreatedAt: base}))
			want = append([]engine.ID{engine.ID(i + 1)}, want...)
		}
		t.bounded("attempts", want, func(after engine.ID, maxBytes int64) (list []engine.ID, sizes []int, next engine.ID) {
			found, cursor, err := t.s.Attempts(t.ctx(), engine.AttemptQuery{Delivery: id(e, 1), Before: int(after), MaxBytes: maxBytes})
			t.must(err)
			for _, a := range found {
				list, sizes = append(list, engine.ID(a.Number)), append(sizes, len(a.Request.Headers[0].Value))
			}
			return list, sizes, engine.ID(cursor)
		})
		t.bounded("versions", want, func(after engine.ID, maxBytes int64) (list []engine.ID, sizes []int, next engine.ID) {
			found, cursor, err := t.s.ScriptVersions(t.ctx(), engine.ScriptVersionQuery{Script: c.ID, Before: int(after), MaxBytes: maxBytes})
			t.must(err)
			for _, v := range found {
				list, sizes = append(list, engine.ID(v.Number)), append(sizes, len(v.Source))
			}
			return list, sizes, engine.ID(cursor)
		})
	}},
	{"pages: audit log and replays end at their bytes", func(t *suite) {
		var entries, jobs []engine.ID
		for _, size := range t.randomSizes(40) {
			e := entry(engine.KindScript, "scr_1")
			e.After = fmt.Appendf(nil, "%q", blob(size))
			t.must(t.s.PutAccount(engine.WithEntry(t.ctx(), e), &engine.Account{Name: fmt.Sprint("a", e.ID), Version: 1}))
			entries = append([]engine.ID{e.ID}, entries...)
			r := &engine.Replay{ID: newID(), Account: "acme", Status: engine.ReplayRunning, Filter: string(blob(size)), CreatedAt: base, UpdatedAt: base}
			t.must(t.s.PutReplay(t.ctx(), r))
			jobs = append([]engine.ID{r.ID}, jobs...)
		}
		t.bounded("audit", entries, func(after engine.ID, maxBytes int64) (list []engine.ID, sizes []int, next engine.ID) {
			found, next, err := t.s.Audit(t.ctx(), engine.AuditQuery{Account: "acme", Before: after, MaxBytes: maxBytes})
			t.must(err)
			for _, e := range found {
				list, sizes = append(list, e.ID), append(sizes, len(e.After))
			}
			return list, sizes, next
		})
		t.bounded("replays", jobs, func(after engine.ID, maxBytes int64) (list []engine.ID, sizes []int, next engine.ID) {
			found, next, err := t.s.Replays(t.ctx(), engine.ReplayQuery{Account: "acme", Before: after, MaxBytes: maxBytes})
			t.must(err)
			for _, r := range found {
				list, sizes = append(list, r.ID), append(sizes, len(r.Filter))
			}
			return list, sizes, next
		})
	}},
}

// blob returns size bytes.
func blob(size int) []byte { return bytes.Repeat([]byte("x"), size) }

// randomSizes returns n sizes, few of them large. A failed test names the seed.
func (t *suite) randomSizes(n int) []int {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	sizes := make([]int, n)
	for i := range sizes {
		sizes[i] = []int{0, 10, 200, 3000}[random.IntN(4)] + random.IntN(50)
	}
	return sizes
}

// bounded reads a list in pages of several sizes: together they must have all rows, and none may be
// larger than it should, unless it has a single row. read returns the rows after a cursor.
func (t *suite) bounded(what string, want []engine.ID, read func(after engine.ID, maxBytes int64) ([]engine.ID, []int, engine.ID)) {
	t.Helper()
	for _, maxBytes := range []int64{0, 1, 500, 2000, 7000, 1 << 40} {
		got := []engine.ID{}
		for after := engine.ID(0); ; {
			page, sizes, next := read(after, maxBytes)
			total := 0
			for _, size := range sizes {
				total += size
			}
			if len(page) > 1 && maxBytes > 0 && int64(total) > maxBytes {
				t.Errorf("%s: a page of %d bytes has %d", what, maxBytes, total)
			}
			got = append(got, page...)
			if after = next; next == 0 {
				break
			}
		}
		t.equal(fmt.Sprintf("%s in pages of %d bytes", what, maxBytes), got, want)
	}
}
