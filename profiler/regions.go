// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"math"
	"slices"
	"sort"

	"github.com/fleetprof/fleetprof/sample"
)

// region is one executable mapping: addresses [start, limit) hold the bytes of
// object from file offset offset on.
type region struct {
	start, limit, offset uint64
	object               *sample.Object
}

// regions are the executable mappings of one process in ascending order,
// without overlaps.
type regions []region

// maxRegions bounds what one process can make us remember and move about. A
// Java or Node.js process has some hundred.
const maxRegions = 4096

// find returns the region that holds address, or nil.
func (rs regions) find(address uint64) *region {
	i := sort.Search(len(rs), func(i int) bool { return rs[i].limit > address })
	if i == len(rs) || rs[i].start > address {
		return nil
	}
	return &rs[i]
}

// lower gives the regions in the lower half of the address space: all but
// [vsyscall], of which the kernel side, comparing addresses as signed numbers,
// must not know.
func (rs regions) lower() regions {
	return rs[:sort.Search(len(rs), func(i int) bool { return rs[i].limit > math.MaxInt64 })]
}

// insert puts in a new mapping, which replaces whatever lay in its range, as
// mmap(2) with MAP_FIXED does. It changes rs in place. ok is false if there was
// no room for all of it: the new mapping then goes missing, the range it
// replaces does so in any case.
func (rs regions) insert(r region) (_ regions, ok bool) {
	first := sort.Search(len(rs), func(i int) bool { return rs[i].limit > r.start })
	last := first
	for last < len(rs) && rs[last].start < r.limit {
		last++
	}
	put := make([]region, 0, 3)
	if first < last && rs[first].start < r.start {
		head := rs[first]
		head.limit = r.start
		put = append(put, head)
	}
	if ok = len(rs)-(last-first)+3 <= maxRegions; ok {
		put = append(put, r)
	}
	if first < last && rs[last-1].limit > r.limit {
		tail := rs[last-1]
		tail.offset += r.limit - tail.start
		tail.start = r.limit
		put = append(put, tail)
	}
	return slices.Replace(rs, first, last, put...), ok
}
