// SPDX-License-Identifier: Apache-2.0

package symbolize

import "container/list"

// lru keeps the most recently used values within a total cost and a number. It
// is not safe for concurrent use.
type lru[K comparable, V any] struct {
	maxCost  int64
	maxCount int
	cost     int64
	entries  map[K]*list.Element
	order    list.List // of *lruEntry[K, V], the most recently used in front
	// evicted, if set, is called with every value that leaves.
	evicted func(V)
}

type lruEntry[K comparable, V any] struct {
	key   K
	value V
	cost  int64
}

func newLRU[K comparable, V any](maxCost int64, maxCount int, evicted func(V)) *lru[K, V] {
	return &lru[K, V]{
		maxCost:  maxCost,
		maxCount: maxCount,
		entries:  make(map[K]*list.Element),
		evicted:  evicted,
	}
}

func (l *lru[K, V]) get(key K) (v V, ok bool) {
	e, ok := l.entries[key]
	if !ok {
		return v, false
	}
	l.order.MoveToFront(e)
	return e.Value.(*lruEntry[K, V]).value, true
}

// put adds or replaces a value and evicts others, but never the new one, until
// the limits hold.
func (l *lru[K, V]) put(key K, v V, cost int64) {
	if e, ok := l.entries[key]; ok {
		l.remove(e)
	}
	l.entries[key] = l.order.PushFront(&lruEntry[K, V]{key, v, cost})
	l.cost += cost
	for (l.cost > l.maxCost || l.order.Len() > l.maxCount) && l.order.Len() > 1 {
		l.remove(l.order.Back())
	}
}

// clear evicts everything.
func (l *lru[K, V]) clear() {
	for e := l.order.Back(); e != nil; e = l.order.Back() {
		l.remove(e)
	}
}

func (l *lru[K, V]) len() int { return l.order.Len() }

func (l *lru[K, V]) remove(e *list.Element) {
	entry := l.order.Remove(e).(*lruEntry[K, V])
	delete(l.entries, entry.key)
	l.cost -= entry.cost
	if l.evicted != nil {
		l.evicted(entry.value)
	}
}
