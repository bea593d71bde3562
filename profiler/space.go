// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"cmp"
	"iter"
	"math/bits"
	"slices"
)

// wordRange is a range of words.
type wordRange struct{ start, end int }

func (e wordRange) size() int { return e.end - e.start }

// space is a set of words: sorted ranges that neither overlap nor touch. A piece
// is taken from the first range that is long enough, and joins its neighbours
// when it comes back. There are at most as many ranges as tables, plus one.
type space struct {
	ranges []wordRange
	total  int
}

func (s *space) clone() space { return space{slices.Clone(s.ranges), s.total} }

// find returns the place of the first range with n words in a row.
func (s *space) find(n int) int {
	return slices.IndexFunc(s.ranges, func(r wordRange) bool { return r.size() >= n })
}

func (s *space) fits(n int) bool { return s.find(n) >= 0 }

// take removes n words in a row.
func (s *space) take(n int) (taken wordRange, ok bool) {
	i := s.find(n)
	if i < 0 {
		return wordRange{}, false
	}
	taken = wordRange{s.ranges[i].start, s.ranges[i].start + n}
	s.remove(taken)
	return taken, true
}

// after is the place of the first range that ends behind a word.
func (s *space) after(word int) int {
	i, _ := slices.BinarySearchFunc(s.ranges, word, func(r wordRange, word int) int { return cmp.Compare(r.end, word+1) })
	return i
}

// remove takes out words that are in the set.
func (s *space) remove(x wordRange) {
	i := s.after(x.start)
	r := s.ranges[i]
	rest := make([]wordRange, 0, 2)
	for _, e := range []wordRange{{r.start, x.start}, {x.end, r.end}} {
		if e.size() > 0 {
			rest = append(rest, e)
		}
	}
	s.ranges = slices.Replace(s.ranges, i, i+1, rest...)
	s.total -= x.size()
}

// add puts in words that are not in the set.
func (s *space) add(x wordRange) {
	s.total += x.size()
	i := s.after(x.start)
	first, last := i, i
	if i > 0 && s.ranges[i-1].end == x.start {
		first, x.start = i-1, s.ranges[i-1].start
	}
	if i < len(s.ranges) && s.ranges[i].start == x.end {
		last, x.end = i+1, s.ranges[i].end
	}
	s.ranges = slices.Replace(s.ranges, first, last, x)
}

// buddies is a set of numbers below a power of two, in ranges of 2^order numbers
// at multiples of 2^order. A range that is too long is split in halves, two free
// halves become one again. All that takes a few hundred steps at most.
type buddies struct {
	// free has a bit for each range of an order.
	free [][]uint64
}

// newBuddies makes a set of count ranges of the highest order.
func newBuddies(maxOrder, count int) buddies {
	b := buddies{make([][]uint64, maxOrder+1)}
	for order := range b.free {
		b.free[order] = make([]uint64, (count<<(maxOrder-order)+63)/64)
	}
	for i := range count {
		b.set(maxOrder, i)
	}
	return b
}

func (b *buddies) set(order, i int)      { b.free[order][i/64] |= 1 << (i % 64) }
func (b *buddies) clear(order, i int)    { b.free[order][i/64] &^= 1 << (i % 64) }
func (b *buddies) has(order, i int) bool { return b.free[order][i/64]>>(i%64)&1 != 0 }

// take removes a range of 2^order numbers.
func (b *buddies) take(order int) (first int, ok bool) {
	for from := order; from < len(b.free); from++ {
		word := slices.IndexFunc(b.free[from], func(w uint64) bool { return w != 0 })
		if word < 0 {
			continue
		}
		i := word*64 + bits.TrailingZeros64(b.free[from][word])
		b.clear(from, i)
		for ; from > order; from-- {
			i *= 2
			b.set(from-1, i+1)
		}
		return i << order, true
	}
	return 0, false
}

// put gives a range back.
func (b *buddies) put(first, order int) {
	i := first >> order
	for ; order+1 < len(b.free) && b.has(order, i^1); order++ {
		b.clear(order, i^1)
		i /= 2
	}
	b.set(order, i)
}

// resting holds what must not be used before a time that is later for each.
type resting[T any] []rest[T]

type rest[T any] struct {
	until uint64
	value T
}

func (r *resting[T]) add(until uint64, value T) { *r = append(*r, rest[T]{until, value}) }

// due removes and yields what has rested long enough.
func (r *resting[T]) due(now uint64) iter.Seq[T] {
	return func(yield func(T) bool) {
		for len(*r) > 0 && (*r)[0].until <= now {
			value := (*r)[0].value
			if *r = (*r)[1:]; !yield(value) {
				return
			}
		}
	}
}
