// Package fifo is a queue in one slice.
package fifo

// maxIdle is the number of items for which an empty Queue keeps its room.
const maxIdle = 1024

// Queue gives its items back in the order in which they came. Its room is used again once
// the first half is taken, and given back after a burst. The zero Queue is empty and ready for use.
type Queue[T any] struct {
	items []T
	head  int
}

// Len returns the number of items.
func (q *Queue[T]) Len() int { return len(q.items) - q.head }

// Push appends an item.
func (q *Queue[T]) Push(item T) {
	if q.head > 32 && q.head > len(q.items)/2 {
		q.compact()
	}
	q.items = append(q.items, item)
}

// Pop takes the oldest item; there must be one.
func (q *Queue[T]) Pop() T {
	var none T
	item := q.items[q.head]
	q.items[q.head] = none
	q.head++
	if q.head == len(q.items) {
		if q.items, q.head = q.items[:0], 0; cap(q.items) > maxIdle {
			q.items = nil
		}
	}
	return item
}

// compact moves the items to the front; to a smaller slice if they use less than a quarter of it.
func (q *Queue[T]) compact() {
	if n := q.Len(); cap(q.items) > maxIdle && n < cap(q.items)/4 {
		q.items = append(make([]T, 0, 2*n), q.All()...)
	} else {
		copy(q.items, q.All())
		clear(q.items[n:])
		q.items = q.items[:n]
	}
	q.head = 0
}

// All gives the items, oldest first, in the queue's own memory.
func (q *Queue[T]) All() []T { return q.items[q.head:] }
