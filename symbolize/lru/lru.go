// SPDX-License-Identifier: Apache-2.0

// Package lru keeps what was used most recently.
package lru

// Cache keeps the most recently used values within a total cost and a number. It
// is not safe for concurrent use.
type Cache[K comparable, V any] struct {
	maxCost  int64
	maxCount int
	cost     int64
	entries  map[K]*entry[K, V]
	// ends is the entry before the first and after the last of a ring: the most recently used is its next.
	ends *entry[K, V]
	// evicted, if set, is called with every value that leaves.
	evicted func(V)
}

// entry is a value that is kept.
type entry[K comparable, V any] struct {
	previous, next *entry[K, V]
	key            K
	value          V
	cost           int64
}

// New makes one for values of a total cost and a number at most. evicted may be nil.
func New[K comparable, V any](maxCost int64, maxCount int, evicted func(V)) *Cache[K, V] {
	l := &Cache[K, V]{
		maxCost:  maxCost,
		maxCount: maxCount,
		entries:  make(map[K]*entry[K, V]),
		ends:     new(entry[K, V]),
		evicted:  evicted,
	}
	l.ends.previous, l.ends.next = l.ends, l.ends
	return l
}

// Get gives a value, and makes it the most recently used.
func (l *Cache[K, V]) Get(key K) (v V, ok bool) {
	e, ok := l.entries[key]
	if !ok {
		return v, false
	}
	l.touch(e)
	return e.value, true
}

// Put adds or replaces a value and evicts others, but never the new one, until
// the limits hold.
func (l *Cache[K, V]) Put(key K, v V, cost int64) {
	if e, ok := l.entries[key]; ok {
		l.remove(e)
	}
	e := &entry[K, V]{key: key, value: v, cost: cost}
	l.link(e)
	l.entries[key] = e
	l.cost += cost
	l.trim()
}

// Price changes the cost of a value that is there, and makes it the most recently used.
func (l *Cache[K, V]) Price(key K, cost int64) {
	e := l.entries[key]
	l.touch(e)
	l.cost += cost - e.cost
	e.cost = cost
	l.trim()
}

// trim evicts values, but never the most recently used, until the limits hold.
func (l *Cache[K, V]) trim() {
	for (l.cost > l.maxCost || len(l.entries) > l.maxCount) && len(l.entries) > 1 {
		l.remove(l.ends.previous)
	}
}

// Delete evicts one value, if it is there.
func (l *Cache[K, V]) Delete(key K) {
	if e, ok := l.entries[key]; ok {
		l.remove(e)
	}
}

// DeleteFunc evicts all values whose keys are of a kind.
func (l *Cache[K, V]) DeleteFunc(of func(K) bool) {
	for key, e := range l.entries {
		if of(key) {
			l.remove(e)
		}
	}
}

// DropOldest evicts the least recently used values, up to the first for which old is false.
func (l *Cache[K, V]) DropOldest(old func(V) bool) {
	for e := l.ends.previous; e != l.ends && old(e.value); e = l.ends.previous {
		l.remove(e)
	}
}

// Clear evicts everything.
func (l *Cache[K, V]) Clear() {
	for e := l.ends.previous; e != l.ends; e = l.ends.previous {
		l.remove(e)
	}
}

// Cost is that of all values together.
func (l *Cache[K, V]) Cost() int64 { return l.cost }

// Len is the number of values.
func (l *Cache[K, V]) Len() int { return len(l.entries) }

func (l *Cache[K, V]) remove(e *entry[K, V]) {
	unlink(e)
	delete(l.entries, e.key)
	l.cost -= e.cost
	if l.evicted != nil {
		l.evicted(e.value)
	}
}

// touch makes an entry the most recently used.
func (l *Cache[K, V]) touch(e *entry[K, V]) {
	if l.ends.next != e {
		unlink(e)
		l.link(e)
	}
}

func (l *Cache[K, V]) link(e *entry[K, V]) {
	e.previous, e.next = l.ends, l.ends.next
	e.previous.next, e.next.previous = e, e
}

func unlink[K comparable, V any](e *entry[K, V]) {
	e.previous.next, e.next.previous = e.next, e.previous
}
