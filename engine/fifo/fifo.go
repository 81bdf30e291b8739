// Package fifo is a queue in one slice.
package fifo

// Queue gives its items back in the order in which they came. Its room is used again once
// the first half is taken. The zero Queue is empty and ready for use.
type Queue[T any] struct {
	items []T
	head  int
}

// Len returns the number of items.
func (q *Queue[T]) Len() int { return len(q.items) - q.head }

// Push appends an item.
func (q *Queue[T]) Push(item T) {
	if q.head > 32 && q.head > len(q.items)/2 {
		n := copy(q.items, q.items[q.head:])
		clear(q.items[n:])
		q.items, q.head = q.items[:n], 0
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
		q.items, q.head = q.items[:0], 0
	}
	return item
}

// All gives the items, oldest first, in the queue's own memory.
func (q *Queue[T]) All() []T { return q.items[q.head:] }
