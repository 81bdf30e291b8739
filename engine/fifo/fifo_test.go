package fifo

import (
	"slices"
	"testing"
)

func TestItemsComeOutInOrder(t *testing.T) {
	var q Queue[*int]
	in, out := 0, 0
	for round := range 200 { // grows, shrinks and runs empty, so that its room is used again
		for range round % 50 {
			item := in
			q.Push(&item)
			in++
		}
		for range (round * 7) % 60 {
			if q.Len() == 0 {
				break
			}
			if got := *q.Pop(); got != out {
				t.Fatalf("%d came for %d", got, out)
			}
			out++
		}
		if q.Len() != in-out || len(q.All()) != q.Len() || q.Len() > 0 && *q.All()[0] != out {
			t.Fatalf("after %d in and %d out there are %d", in, out, q.Len())
		}
		// What was taken is not held on to.
		if slices.ContainsFunc(q.items[:q.head], func(item *int) bool { return item != nil }) {
			t.Fatal("an item that was taken is kept")
		}
	}
	if len(q.items) > 2*q.Len()+64 {
		t.Errorf("%d places for %d items", len(q.items), q.Len())
	}
}

func TestQueue_GivesRoomBackAfterBurst(t *testing.T) {
	var q Queue[int]
	for i := range 100_000 {
		q.Push(i)
	}
	for range 99_000 {
		q.Pop()
	}
	q.Push(100_000)
	if cap(q.items) > 4000 {
		t.Errorf("room for %d items, holds %d", cap(q.items), q.Len())
	}
	for want := 99_000; q.Len() > 0; want++ {
		if got := q.Pop(); got != want {
			t.Fatalf("%d came for %d", got, want)
		}
	}
	if cap(q.items) > maxIdle {
		t.Errorf("an empty queue has room for %d items", cap(q.items))
	}
}
