package dispatchqueue

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"switchhook/engine"
	"switchhook/engine/snowflake"
	"switchhook/engine/watermark"
)

var (
	noon  = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	first = snowflake.FirstAt(noon)
	alone = BatchLimit{Size: 1}
)

// idOf returns the id of the event at the n-th position. Ids do not follow positions, as those of two
// nodes do not.
func idOf(n int) engine.ID { return first + engine.ID(n^3) }

// newEntry returns the delivery at the n-th position, just accepted, in a group.
func newEntry(n int, group uint64) Entry {
	en := storedEntry(n, group)
	en.Tracked = &watermark.Event{}
	return en
}

// storedEntry returns the delivery at the n-th position in a group, as it is read from the store.
func storedEntry(n int, group uint64) Entry {
	return Entry{Event: idOf(n), Position: engine.Position(n), Group: group}
}

func all(*Entry) bool { return true }

func newKeyedFIFO(room int, queued func(*Entry) bool) OrderedQueue {
	q := &Queue{}
	q.KeepOrder(room, queued)
	return q.Ordered
}

func newDebouncer(within time.Duration, now func() time.Time) OrderedQueue {
	q := &Queue{}
	q.Debounce(within, now)
	return q.Ordered
}

// popAll pops everything that is ready, and returns the batches and the numbers of their events.
func popAll(s OrderedQueue, now time.Time, b BatchLimit) (batches []Batch, numbers string) {
	var list []string
	for {
		if ready, _ := s.Ready(now, b); !ready {
			return batches, strings.Join(list, " ")
		}
		p := s.Pop(b.Size)
		var ids []string
		for i := range p.Len() {
			ids = append(ids, fmt.Sprint(p.At(i).Position))
		}
		batches, list = append(batches, p), append(list, strings.Join(ids, "+"))
	}
}

func describe(list []Displaced) string {
	var text []string
	for _, a := range list {
		if a.SupersededBy == 0 {
			text = append(text, fmt.Sprint(a.Entry.Position))
		} else {
			text = append(text, fmt.Sprintf("%d by %d", a.Entry.Position, (a.SupersededBy-first)^3))
		}
	}
	return strings.Join(text, ", ")
}

func assertEqual(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

func each(d Disposition) func(int) Disposition { return func(int) Disposition { return d } }

func enqueueAll(t *testing.T, s OrderedQueue, entries ...Entry) (list []Displaced) {
	t.Helper()
	for _, en := range entries {
		kept, more := s.Enqueue(en, false)
		if !kept {
			t.Errorf("event %d must wait in the store", en.Position)
		}
		list = append(list, more...)
	}
	return list
}

func TestKeyedFIFO_GroupInEventOrderOneAtATime(t *testing.T) {
	s := newKeyedFIFO(GroupCapacity, all)
	enqueueAll(t, s, newEntry(1, 7), newEntry(3, 7), newEntry(2, 7), newEntry(4, 8))
	p, got := popAll(s, noon, alone)
	assertEqual(t, "the first of each group", got, "1 4")
	s.Completed(&p[0], each(Finished))
	_, got = popAll(s, noon, alone)
	assertEqual(t, "after the first", got, "2")
	if n, oldest := s.Open(); n != 1 || oldest != idOf(3) || s.Len() != 1 {
		t.Errorf("%d wait, the oldest is %d", n, oldest)
	}
}

func TestKeyedFIFO_RetryBlocksItsGroupOnly(t *testing.T) {
	q := &Queue{}
	q.KeepOrder(GroupCapacity, all)
	s := q.Ordered
	enqueueAll(t, s, newEntry(1, 7), newEntry(2, 7), newEntry(3, 8))
	p, _ := popAll(s, noon, alone)
	list := s.Completed(&p[0], each(Failed))
	assertEqual(t, "displaced by the blocked group", describe(list), "2")
	q.SpillStarted(2)
	if kept, _ := s.Enqueue(newEntry(4, 7), false); kept {
		t.Error("a later delivery of the blocked group waits in memory")
	}
	q.SpillStarted(4)
	enqueueAll(t, s, newEntry(5, 9))
	_, got := popAll(s, noon, alone)
	assertEqual(t, "another group is ready", got, "5")

	s.EnqueueDue(storedEntry(1, 7))
	p, got = popAll(s, noon, alone)
	assertEqual(t, "the retry", got, "1")
	if _, ok := s.StartFetch(); ok {
		t.Error("the store is read while rows are being written")
	}
	q.SpillRecorded(2)
	q.SpillRecorded(4)
	s.Completed(&p[0], each(Finished))
	from, ok := s.StartFetch()
	if !ok || from != 2 {
		t.Fatalf("StartFetch: %v from %d", ok, from)
	}
	s.FetchCompleted([]Entry{storedEntry(2, 7), storedEntry(4, 7)}, true, map[engine.ID]bool{})
	for _, want := range []string{"2", "4"} {
		p, got = popAll(s, noon, alone)
		assertEqual(t, "what was left in the store", got, want)
		s.Completed(&p[0], each(Finished))
	}
}

func TestKeyedFIFO_NotAttemptedReturnsToHead(t *testing.T) {
	s := newKeyedFIFO(Capacity, all)
	enqueueAll(t, s, newEntry(1, 0), newEntry(2, 0))
	p, _ := popAll(s, noon, alone)
	s.Completed(&p[0], each(NotAttempted))
	_, got := popAll(s, noon, alone)
	assertEqual(t, "attempted again", got, "1")
}

func TestKeyedFIFO_NotReadyBeforeEarlierEventsAreQueued(t *testing.T) {
	through := engine.Position(1)
	s := newKeyedFIFO(Capacity, func(en *Entry) bool { return en.Position <= through })
	enqueueAll(t, s, newEntry(2, 0))
	_, got := popAll(s, noon, alone)
	assertEqual(t, "the first is not queued yet", got, "")
	enqueueAll(t, s, newEntry(1, 0))
	p, got := popAll(s, noon, alone)
	assertEqual(t, "a late one goes first", got, "1")
	s.Completed(&p[0], each(Finished))
	through = 2
	_, got = popAll(s, noon, alone)
	assertEqual(t, "then the other", got, "2")
}

func TestKeyedFIFO_BatchKeepsOrderOfGroups(t *testing.T) {
	s := newKeyedFIFO(GroupCapacity, all)
	enqueueAll(t, s, newEntry(1, 7), newEntry(2, 7), newEntry(3, 8), newEntry(4, 7))
	b := BatchLimit{Size: 3, Wait: time.Minute}
	p, got := popAll(s, noon, b)
	assertEqual(t, "a full one", got, "1+2+4")
	if ready, at := s.Ready(noon, b); ready || !at.Equal(noon.Add(time.Minute)) {
		t.Errorf("the rest is ready at %s", at)
	}
	assertEqual(t, "displaced behind a failed delivery", describe(s.Completed(&p[0], func(i int) Disposition { return []Disposition{Finished, Failed, NotAttempted}[i] })), "4")
}

func TestStoreTail_RowsAfterPendingSpillAreDiscarded(t *testing.T) {
	q := &Queue{}
	q.KeepOrder(Capacity, all)
	s := q.Ordered
	s.MarkInStore(1)
	if from, ok := s.StartFetch(); !ok || from != 1 {
		t.Fatalf("StartFetch: %v from %d", ok, from)
	}
	if kept, _ := s.Enqueue(newEntry(2, 0), false); kept {
		t.Fatal("event 2 overtakes what lies in the store")
	}
	q.SpillStarted(2)
	s.FetchCompleted([]Entry{storedEntry(1, 0), storedEntry(3, 0)}, true, map[engine.ID]bool{})
	_, got := popAll(s, noon, alone)
	assertEqual(t, "up to the row that may be missing", got, "1")
	q.SpillRecorded(2)
	if from, ok := s.StartFetch(); !ok || from != 2 {
		t.Errorf("StartFetch: %d, %v", from, ok)
	}
}

func TestDebouncer_NewestSupersedes(t *testing.T) {
	now := noon
	s := newDebouncer(time.Minute, func() time.Time { return now })
	assertEqual(t, "superseded", describe(enqueueAll(t, s, newEntry(1, 7), newEntry(3, 7), newEntry(2, 7), newEntry(4, 8))), "1 by 3, 2 by 3")
	_, got := popAll(s, now, alone)
	assertEqual(t, "while it is open", got, "")
	now = now.Add(time.Minute)
	p, got := popAll(s, now, alone)
	assertEqual(t, "when it closes", got, "3 4")
	enqueueAll(t, s, newEntry(5, 7))
	assertEqual(t, "a failed one that is superseded", describe(s.Completed(&p[0], each(Failed))), "3 by 5")
	assertEqual(t, "and one that is not", describe(s.Completed(&p[1], each(Failed))), "")
	assertEqual(t, "superseded while it waits", describe(enqueueAll(t, s, newEntry(6, 8))), "4 by 6")
	now = now.Add(-time.Hour) // the clock is set back
	if ready, at := s.Ready(now, alone); ready || at.After(now.Add(time.Minute)) {
		t.Errorf("the windows close at %s", at)
	}
}

func TestOrderedQueue_ManualRetryIsNotSuperseded(t *testing.T) {
	now := noon
	for name, s := range map[string]OrderedQueue{"keyed_fifo": newKeyedFIFO(GroupCapacity, all), "debouncer": newDebouncer(time.Minute, func() time.Time { return now })} {
		s.EnqueueManual(storedEntry(1, 7))
		enqueueAll(t, s, newEntry(2, 7))
		p, _ := popAll(s, now, alone)
		if p[0].First.Position != 1 {
			t.Errorf("%s: %d goes first", name, p[0].First.Position)
		}
		assertEqual(t, name+": it fails", describe(s.Completed(&p[0], each(Failed))), "")
		s.EnqueueDue(storedEntry(1, 7))
		if p, _ = popAll(s, now, alone); len(p) != 1 || p[0].First.Position != 1 {
			t.Errorf("%s: its own retry is lost: %v", name, p)
		}
	}
}

func TestOrderedQueue_Remove(t *testing.T) {
	odd := func(en *Entry) bool { return (en.Position)%2 == 1 }
	for name, s := range map[string]OrderedQueue{"keyed_fifo": newKeyedFIFO(GroupCapacity, all), "debouncer": newDebouncer(time.Minute, func() time.Time { return noon })} {
		enqueueAll(t, s, newEntry(1, 1), newEntry(2, 2), newEntry(3, 3))
		if out := s.Remove(odd); len(out) != 2 || s.Len() != 1 || len(s.All()) != 1 || s.All()[0].Position != 2 {
			t.Errorf("%s: %d were removed, %d are left", name, len(out), s.Len())
		}
	}
}

func isReady(q *Queue, now time.Time) bool {
	ready, _ := q.Ready(now)
	return ready
}

func TestQueue_BatchSizeShrinksAndGrows(t *testing.T) {
	q := Queue{Limit: BatchLimit{Size: 8, Wait: time.Minute}}
	fill := func() {
		for i := range 8 {
			q.Push(storedEntry(i, 0))
		}
	}
	fill()
	if p := q.Pop(); p.Len() != 8 || isReady(&q, noon) {
		t.Fatalf("%d in the batch", p.Len())
	}
	q.BatchTooLarge(8)
	fill()
	if p := q.Pop(); p.Len() != 4 || q.Len() != 4 {
		t.Errorf("%d in the batch", p.Len())
	}
	for range 4 * growAfter {
		q.BatchAccepted()
	}
	fill()
	if p := q.Pop(); p.Len() != 8 {
		t.Errorf("%d in the batch after growth", p.Len())
	}
	if n, oldest := q.Open(); n != 4 || oldest != idOf(4) {
		t.Errorf("%d are left, the oldest is %d", n, oldest)
	}
	if out := q.Remove(func(en *Entry) bool { return en.Position > 5 }); len(out) != 2 || q.Len() != 2 {
		t.Errorf("%d were removed, %d are left", len(out), q.Len())
	}
	if ready, at := q.Ready(noon); ready || !at.Equal(noon.Add(time.Minute)) {
		t.Errorf("the rest is ready at %s", at)
	}
	if !isReady(&q, noon.Add(time.Minute)) {
		t.Error("a delivery that waited for Wait is not ready")
	}
	q.Clear()
	if q.Len() != 0 || isReady(&q, noon.Add(time.Hour)) {
		t.Error("a cleared queue is not empty")
	}
}

// releaseCounter counts the calls of Release.
type releaseCounter int

func (h *releaseCounter) Release() { *h++ }

func TestKeyedFIFO_BlockedGroupReleasesStoredEntries(t *testing.T) {
	var released releaseCounter
	s := newKeyedFIFO(Capacity, all)
	behind := storedEntry(2, 0)
	behind.Payload = &released
	enqueueAll(t, s, storedEntry(1, 0), behind)
	p, _ := popAll(s, noon, alone)
	if list := s.Completed(&p[0], each(Failed)); len(list) != 0 || released != 1 {
		t.Errorf("displaced %s, %d released", describe(list), released)
	}
	(&Entry{}).Release() // without a payload
}

// BenchmarkQueue pushes and pops deliveries through each kind of queue.
func BenchmarkQueue(b *testing.B) {
	for name, ordered := range map[string]OrderedQueue{"fifo": nil, "keyed_fifo": newKeyedFIFO(GroupCapacity, all), "debouncer": newDebouncer(0, func() time.Time { return noon })} {
		b.Run(name, func(b *testing.B) {
			q := Queue{Ordered: ordered}
			b.ReportAllocs()
			for n := 0; b.Loop(); n++ {
				if ordered == nil {
					q.Push(storedEntry(n, 0))
					q.Pop()
					continue
				}
				ordered.Enqueue(storedEntry(n, uint64(n%100)), false)
				p := q.Pop()
				ordered.Completed(&p, each(Finished))
			}
		})
	}
}
