// SPDX-License-Identifier: Apache-2.0

package rpc

// links make a list of elements by recency.
type links[T any] struct{ newer, older *T }

// recency is a list, the most recently used first. link says where the links of
// an element are.
type recency[T any] struct {
	newest, oldest *T
	n              int
	link           func(*T) *links[T]
}

func (l *recency[T]) push(t *T) {
	k := l.link(t)
	k.newer, k.older = nil, l.newest
	if l.newest != nil {
		l.link(l.newest).newer = t
	} else {
		l.oldest = t
	}
	l.newest = t
	l.n++
}

func (l *recency[T]) remove(t *T) {
	k := l.link(t)
	if k.newer != nil {
		l.link(k.newer).older = k.older
	} else {
		l.newest = k.older
	}
	if k.older != nil {
		l.link(k.older).newer = k.newer
	} else {
		l.oldest = k.newer
	}
	*k = links[T]{}
	l.n--
}

func (l *recency[T]) touch(t *T) {
	if l.newest != t {
		l.remove(t)
		l.push(t)
	}
}
