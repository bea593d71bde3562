// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"cmp"
	"slices"
	"sort"
)

// index is the list of all files, by the end of their windows. It has no
// lock of its own.
type index struct {
	entries []Entry
	bytes   int64
	damaged map[Entry]struct{}
}

func compare(a, b Entry) int {
	return cmp.Or(cmp.Compare(a.End, b.End), cmp.Compare(a.Start, b.Start), bytes.Compare(a.Hash[:], b.Hash[:]), cmp.Compare(a.Kind, b.Kind))
}

func (x *index) load(entries []Entry) {
	slices.SortFunc(entries, compare)
	x.entries, x.bytes, x.damaged = entries, 0, map[Entry]struct{}{}
	for _, e := range entries {
		x.bytes += e.Size
	}
}

// add reports whether e is new. If it was damaged, it no longer is.
func (x *index) add(e Entry) bool {
	delete(x.damaged, e)
	i, found := slices.BinarySearchFunc(x.entries, e, compare)
	if found {
		return false
	}
	x.entries = slices.Insert(x.entries, i, e)
	x.bytes += e.Size
	return true
}

func (x *index) oldest() (Entry, bool) {
	if len(x.entries) == 0 {
		return Entry{}, false
	}
	return x.entries[0], true
}

func (x *index) removeOldest() {
	e := x.entries[0]
	x.entries = x.entries[1:]
	x.bytes -= e.Size
	delete(x.damaged, e)
}

// markDamaged reports whether e is there and was not marked before.
func (x *index) markDamaged(e Entry) bool {
	_, found := slices.BinarySearchFunc(x.entries, e, compare)
	_, marked := x.damaged[e]
	if !found || marked {
		return false
	}
	x.damaged[e] = struct{}{}
	return true
}

// count is how many files of a kind there are.
func (x *index) count(kind Kind) (n int) {
	for i := range x.entries {
		if x.entries[i].Kind == kind {
			n++
		}
	}
	return n
}

// overlapping copies the sound entries of a kind that overlap [from, to), both in
// milliseconds.
func (x *index) overlapping(kind Kind, from, to int64) []Entry {
	first := sort.Search(len(x.entries), func(i int) bool { return x.entries[i].End > from })
	var found []Entry
	for _, e := range x.entries[first:] {
		if e.End >= to+maxDuration.Milliseconds() {
			break // no window is long enough to reach back into the range
		}
		if _, bad := x.damaged[e]; e.Start < to && !bad && e.Kind == kind {
			found = append(found, e)
		}
	}
	return found
}

func (x *index) bounds() (first, last int64, ok bool) {
	if len(x.entries) == 0 {
		return 0, 0, false
	}
	return x.entries[0].Start, x.entries[len(x.entries)-1].End, true
}
