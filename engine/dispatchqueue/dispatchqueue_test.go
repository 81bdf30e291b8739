package dispatchqueue

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"switchhook/engine/snowflake"
	"switchhook/engine/watermark"
)

var (
	noon  = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	first = snowflake.FirstAt(noon)
	alone = BatchLimit{Size: 1}
)

// came is a delivery of the n-th event that was just accepted, of a group.
func came(n int, group uint64) Entry {
	return Entry{Event: first + snowflake.ID(n), Group: group, Tracked: &watermark.Event{}}
}

// row is the same, as the store tells it.
func row(n int, group uint64) Entry { return Entry{Event: first + snowflake.ID(n), Group: group} }

func all(snowflake.ID) bool { return true }

// taken takes all that may go now, and shows the numbers of the events, parcel by parcel.
func taken(s OrderedQueue, now time.Time, b BatchLimit) (parcels []Batch, shown string) {
	var list []string
	for {
		if ready, _ := s.Ready(now, b); !ready {
			return parcels, strings.Join(list, " ")
		}
		p := s.Pop(b.Size)
		var numbers []string
		for i := range p.Len() {
			numbers = append(numbers, fmt.Sprint(p.At(i).Event-first))
		}
		parcels, list = append(parcels, p), append(list, strings.Join(numbers, "+"))
	}
}

func shown(list []Displaced) string {
	var text []string
	for _, a := range list {
		if a.SupersededBy == 0 {
			text = append(text, fmt.Sprint(a.Entry.Event-first))
		} else {
			text = append(text, fmt.Sprintf("%d by %d", a.Entry.Event-first, a.SupersededBy-first))
		}
	}
	return strings.Join(text, ", ")
}

func expect(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

func became(fate Disposition) func(int) Disposition { return func(int) Disposition { return fate } }

func add(t *testing.T, s OrderedQueue, entries ...Entry) (list []Displaced) {
	t.Helper()
	for _, en := range entries {
		stored, more := s.Enqueue(en, false)
		if stored {
			t.Errorf("event %d is to wait in the store", en.Event-first)
		}
		list = append(list, more...)
	}
	return list
}

func TestALaneGoesOneByOneInTheOrderOfEvents(t *testing.T) {
	s := NewKeyedFIFO(GroupCapacity, all)
	add(t, s, came(1, 7), came(3, 7), came(2, 7), came(4, 8))
	p, got := taken(s, noon, alone)
	expect(t, "one of each group", got, "1 4")
	s.Completed(&p[0], became(Finished))
	_, got = taken(s, noon, alone)
	expect(t, "after the first", got, "2")
	if n, oldest := s.Open(); n != 1 || oldest != first+3 || s.Len() != 1 {
		t.Errorf("%d wait, the oldest is %d", n, oldest-first)
	}
}

func TestALaneThatWaitsForARetryHoldsBackItsGroupAlone(t *testing.T) {
	s := NewKeyedFIFO(GroupCapacity, all)
	add(t, s, came(1, 7), came(2, 7), came(3, 8))
	p, _ := taken(s, noon, alone)
	list := s.Completed(&p[0], became(Failed))
	expect(t, "what waits behind it is to have a row", shown(list), "2")
	if stored, _ := s.Enqueue(came(4, 7), false); !stored {
		t.Error("a later one of the group takes room in memory")
	}
	add(t, s, came(5, 9))
	_, got := taken(s, noon, alone)
	expect(t, "another group goes", got, "5")

	s.EnqueueDue(row(1, 7))
	p, got = taken(s, noon, alone)
	expect(t, "the retry", got, "1")
	if _, ok := s.NextFetch(); ok {
		t.Error("the store is read although rows are on their way there")
	}
	s.SpillRecorded(first + 2)
	s.SpillRecorded(first + 4)
	s.Completed(&p[0], became(Finished))
	from, ok := s.NextFetch()
	if !ok || from != first+2 {
		t.Fatalf("is to be read: %v from %d", ok, from-first)
	}
	s.FetchStarted(from)
	s.FetchCompleted([]Entry{row(2, 7), row(4, 7)}, true, map[snowflake.ID]bool{})
	for _, want := range []string{"2", "4"} {
		p, got = taken(s, noon, alone)
		expect(t, "what was left in the store", got, want)
		s.Completed(&p[0], became(Finished))
	}
}

func TestWhatWasNotAttemptedWaitsAtTheHeadAgain(t *testing.T) {
	s := NewKeyedFIFO(Capacity, all)
	add(t, s, came(1, 0), came(2, 0))
	p, _ := taken(s, noon, alone)
	s.Completed(&p[0], became(NotAttempted))
	_, got := taken(s, noon, alone)
	expect(t, "once more", got, "1")
}

func TestNothingGoesBeforeAllEarlierEventsWereQueued(t *testing.T) {
	through := first + 1
	s := NewKeyedFIFO(Capacity, func(event snowflake.ID) bool { return event <= through })
	add(t, s, came(2, 0))
	_, got := taken(s, noon, alone)
	expect(t, "the first is not queued yet", got, "")
	add(t, s, came(1, 0))
	p, got := taken(s, noon, alone)
	expect(t, "a late one goes first", got, "1")
	s.Completed(&p[0], became(Finished))
	through = first + 2
	_, got = taken(s, noon, alone)
	expect(t, "then the other", got, "2")
}

func TestABatchOfLanesKeepsTheirOrder(t *testing.T) {
	s := NewKeyedFIFO(GroupCapacity, all)
	add(t, s, came(1, 7), came(2, 7), came(3, 8), came(4, 7))
	b := BatchLimit{Size: 3, Wait: time.Minute}
	p, got := taken(s, noon, b)
	expect(t, "a full one", got, "1+2+4")
	if ready, at := s.Ready(noon, b); ready || !at.Equal(noon.Add(time.Minute)) {
		t.Errorf("the rest goes at %s", at)
	}
	expect(t, "what follows one that failed", shown(s.Completed(&p[0], func(i int) Disposition { return []Disposition{Finished, Failed, NotAttempted}[i] })), "4")
}

func TestReadsThatMissAnythingAreNotTrusted(t *testing.T) {
	s := NewKeyedFIFO(Capacity, all)
	s.MarkInStore(1)
	s.FetchStarted(1)
	if stored, _ := s.Enqueue(came(2, 0), false); !stored {
		t.Fatal("event 2 overtakes what lies in the store")
	}
	s.FetchCompleted([]Entry{row(1, 0), row(3, 0)}, true, map[snowflake.ID]bool{})
	_, got := taken(s, noon, alone)
	expect(t, "up to the row that may be missing", got, "1")
	s.SpillRecorded(first + 2)
	if from, ok := s.NextFetch(); !ok || from != first+2 {
		t.Errorf("the rest is to be read from %d, %v", from-first, ok)
	}
}

func TestTheNewestOfAWindowGoesAlone(t *testing.T) {
	now := noon
	s := NewDebouncer(time.Minute, func() time.Time { return now })
	expect(t, "superseded", shown(add(t, s, came(1, 7), came(3, 7), came(2, 7), came(4, 8))), "1 by 3, 2 by 3")
	_, got := taken(s, now, alone)
	expect(t, "while it is open", got, "")
	now = now.Add(time.Minute)
	p, got := taken(s, now, alone)
	expect(t, "when it closes", got, "3 4")
	add(t, s, came(5, 7))
	expect(t, "a failed one that is superseded", shown(s.Completed(&p[0], became(Failed))), "3 by 5")
	expect(t, "and one that is not", shown(s.Completed(&p[1], became(Failed))), "")
	expect(t, "superseded while it waits", shown(add(t, s, came(6, 8))), "4 by 6")
	now = now.Add(-time.Hour) // the clock is set back
	if ready, at := s.Ready(now, alone); ready || at.After(now.Add(time.Minute)) {
		t.Errorf("the windows close at %s", at)
	}
}

func TestARetryByHandIsNotSuperseded(t *testing.T) {
	now := noon
	for name, s := range map[string]OrderedQueue{"lanes": NewKeyedFIFO(GroupCapacity, all), "windows": NewDebouncer(time.Minute, func() time.Time { return now })} {
		s.EnqueueManual(row(1, 7))
		add(t, s, came(2, 7))
		p, _ := taken(s, now, alone)
		if p[0].First.Event != first+1 {
			t.Errorf("%s: %d goes first", name, p[0].First.Event-first)
		}
		expect(t, name+": it fails", shown(s.Completed(&p[0], became(Failed))), "")
		s.EnqueueDue(row(1, 7))
		if p, _ = taken(s, now, alone); len(p) != 1 || p[0].First.Event != first+1 {
			t.Errorf("%s: its own retry is lost: %v", name, p)
		}
	}
}

func TestWithdrawnDeliveriesAreGone(t *testing.T) {
	odd := func(en *Entry) bool { return (en.Event-first)%2 == 1 }
	for name, s := range map[string]OrderedQueue{"lanes": NewKeyedFIFO(GroupCapacity, all), "windows": NewDebouncer(time.Minute, func() time.Time { return noon })} {
		add(t, s, came(1, 1), came(2, 2), came(3, 3))
		if out := s.Remove(odd); len(out) != 2 || s.Len() != 1 || len(s.All()) != 1 || s.All()[0].Event != first+2 {
			t.Errorf("%s: %d were taken out, %d are left", name, len(out), s.Len())
		}
	}
}

func TestALineMakesSmallerBatchesForATargetThatRefusesThem(t *testing.T) {
	l := Queue{Limit: BatchLimit{Size: 8, Wait: time.Minute}}
	fill := func() {
		for i := range 8 {
			l.Push(row(i, 0))
		}
	}
	fill()
	if p := l.Pop(); p.Len() != 8 || l.IsReady(noon) {
		t.Fatalf("%d go together", p.Len())
	}
	l.BatchTooLarge(8)
	fill()
	if p := l.Pop(); p.Len() != 4 || l.Len() != 4 {
		t.Errorf("%d go together", p.Len())
	}
	for range 4 * growAfter {
		l.BatchAccepted()
	}
	fill()
	if p := l.Pop(); p.Len() != 8 {
		t.Errorf("%d go together in the end", p.Len())
	}
	if n, oldest := l.Open(); n != 4 || oldest != first+4 {
		t.Errorf("%d are left, the oldest is %d", n, oldest-first)
	}
	if out := l.Remove(func(en *Entry) bool { return en.Event > first+5 }); len(out) != 2 || l.Len() != 2 {
		t.Errorf("%d were cut out, %d are left", len(out), l.Len())
	}
	if ready, at := l.Ready(noon); ready || !at.Equal(noon.Add(time.Minute)) {
		t.Errorf("the rest goes at %s", at)
	}
	if !l.IsReady(noon.Add(time.Minute)) {
		t.Error("what has waited long enough does not go")
	}
	l.Clear()
	if l.Len() != 0 || l.IsReady(noon.Add(time.Hour)) {
		t.Error("a cleared line is not empty")
	}
}

// holder counts who is done with an event.
type holder int

func (h *holder) Release() { *h++ }

func TestWhatHasARowIsLetGoOfWhenItsLaneBlocks(t *testing.T) {
	var held holder
	s := NewKeyedFIFO(Capacity, all)
	behind := row(2, 0)
	behind.Payload = &held
	add(t, s, row(1, 0), behind)
	p, _ := taken(s, noon, alone)
	if list := s.Completed(&p[0], became(Failed)); len(list) != 0 || held != 1 {
		t.Errorf("%s set aside, %d let go of", shown(list), held)
	}
	(&Entry{}).Release() // nothing was held
}

// BenchmarkLine takes deliveries through each kind of line.
func BenchmarkLine(b *testing.B) {
	for name, sorted := range map[string]OrderedQueue{"plain": nil, "lanes": NewKeyedFIFO(GroupCapacity, all), "windows": NewDebouncer(0, func() time.Time { return noon })} {
		b.Run(name, func(b *testing.B) {
			l := Queue{Ordered: sorted}
			b.ReportAllocs()
			for n := 0; b.Loop(); n++ {
				if sorted == nil {
					l.Push(row(n, 0))
					l.Pop()
					continue
				}
				sorted.Enqueue(row(n, uint64(n%100)), false)
				p := l.Pop()
				sorted.Completed(&p, became(Finished))
			}
		})
	}
}
