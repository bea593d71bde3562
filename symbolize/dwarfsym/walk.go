// SPDX-License-Identifier: Apache-2.0

package dwarfsym

import (
	"cmp"
	"slices"
)

// Walk tells of all addresses of the file that belong to a unit: f gets ranges, all addresses of
// which have the same frames, and the error with which they cannot be told; neither where nothing is
// known. Ranges that follow on each other in the file are in order and have no holes between them, until
// those of another unit come; units come in any order. Walk reads one unit at a time, whatever time there is, and calls
// next before each. It ends with the first error of next or f.
//
// Lookup gives the same answers, and may be called meanwhile.
func (t *Table) Walk(next func() error, f func(low, high uint64, frames []Frame, err error) error) error {
	order := make([]int32, len(t.spans))
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortFunc(order, func(a, b int32) int {
		return cmp.Or(cmp.Compare(t.spans[a].unit, t.spans[b].unit), cmp.Compare(a, b))
	})
	for len(order) > 0 {
		unit, n := t.spans[order[0]].unit, 1
		for n < len(order) && t.spans[order[n]].unit == unit {
			n++
		}
		if err := next(); err != nil {
			return err
		}
		if err := t.walkUnit(unit, order[:n], f); err != nil {
			return err
		}
		order = order[n:]
	}
	return nil
}

// walkUnit does so for the spans of one unit.
func (t *Table) walkUnit(unit int32, spans []int32, f func(low, high uint64, frames []Frame, err error) error) error {
	t.mu.Lock()
	p, release := t.units.borrow(t, unit)
	t.mu.Unlock()
	defer release()
	for i, s := range spans {
		if i > 0 && spans[i-1] == s-1 && t.spans[s-1].high < t.spans[s].low {
			if err := f(t.spans[s-1].high, t.spans[s].low, nil, nil); err != nil {
				return err
			}
		}
		for at, end := t.spans[s].low, t.spans[s].high; at < end; {
			past, frames, err := min(end, p.constant(at)), []Frame(nil), p.err
			if err == nil {
				t.mu.Lock()
				frames = t.frames(p, at)
				t.mu.Unlock()
			}
			if err := f(at, past, frames, err); err != nil {
				return err
			}
			at = past
		}
	}
	return nil
}

// constant gives the next address after one at which the answer may be another.
func (p *parsed) constant(addr uint64) uint64 {
	next := ^uint64(0)
	if i := after(p.segments, addr, func(s segment) uint64 { return s.start }); i < len(p.segments) {
		next = p.segments[i].start
	}
	i := after(p.sequences, addr, func(s sequence) uint64 { return s.low })
	if i < len(p.sequences) {
		next = min(next, p.sequences[i].low)
	}
	if i == 0 || addr >= p.sequences[i-1].high {
		return next
	}
	s := p.sequences[i-1]
	rows := p.rows[s.first:s.last]
	if r := after(rows, addr, func(r row) uint64 { return r.addr }); r < len(rows) {
		next = min(next, rows[r].addr)
	}
	return min(next, s.high)
}

// after gives the index of the first element beyond an address, of elements that are sorted by theirs.
func after[E any](all []E, addr uint64, of func(E) uint64) int {
	i, _ := slices.BinarySearchFunc(all, addr, func(e E, addr uint64) int {
		if of(e) <= addr {
			return -1
		}
		return 1
	})
	return i
}

// disjoint makes each range end where the next one begins, so that an address has one unit, and drops those
// of which nothing is left. Ranges overlap of functions that the linker has folded into one.
func disjoint(spans []span) []span {
	kept := spans[:0]
	for i, s := range spans {
		if i+1 < len(spans) {
			s.high = min(s.high, spans[i+1].low)
		}
		if s.low < s.high {
			kept = append(kept, s)
		}
	}
	return kept
}
