package schedule

import (
	"container/heap"
	"time"
)

// place is where something stands in a queue. What is queued embeds it.
type place struct {
	key     time.Time // earliest first
	arrival uint64    // decides among equal keys
	index   int       // in the queue, -1 while in none
}

func (p *place) of() *place { return p }

func (p *place) before(other *place) bool {
	if !p.key.Equal(other.key) {
		return p.key.Before(other.key)
	}
	return p.arrival < other.arrival
}

// queue has what comes first at its beginning. Whatever is in it must not have its
// place changed other than by set. Its zero value is empty.
type queue[T interface{ of() *place }] struct{ items heapOf[T] }

func (q *queue[T]) len() int { return len(q.items) }

// first is for queues that are not empty.
func (q *queue[T]) first() T { return q.items[0] }

func (q *queue[T]) push(item T) { heap.Push(&q.items, item) }

func (q *queue[T]) remove(item T) { heap.Remove(&q.items, item.of().index) }

// set gives something that is in the queue another key.
func (q *queue[T]) set(item T, key time.Time) {
	item.of().key = key
	heap.Fix(&q.items, item.of().index)
}

// heapOf implements [heap.Interface].
type heapOf[T interface{ of() *place }] []T

func (h heapOf[T]) Len() int           { return len(h) }
func (h heapOf[T]) Less(i, j int) bool { return h[i].of().before(h[j].of()) }

func (h heapOf[T]) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].of().index, h[j].of().index = i, j
}

// Push implements [heap.Interface].
func (h *heapOf[T]) Push(x any) {
	item := x.(T)
	item.of().index = len(*h)
	*h = append(*h, item)
}

// Pop implements [heap.Interface].
func (h *heapOf[T]) Pop() any {
	last := len(*h) - 1
	item := (*h)[last]
	clear((*h)[last:])
	*h = (*h)[:last]
	item.of().index = -1
	return item
}
