// SPDX-License-Identifier: Apache-2.0

package profiler

import (
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
// without overlaps. The slice may be shared between a process and its
// children: every change makes a new one.
type regions []region

// maxRegions bounds what one process can make us remember.
const maxRegions = 16384

// find returns the region that holds address, or nil.
func (rs regions) find(address uint64) *region {
	i := sort.Search(len(rs), func(i int) bool { return rs[i].limit > address })
	if i == len(rs) || rs[i].start > address {
		return nil
	}
	return &rs[i]
}

// with returns the regions after a new mapping has replaced whatever lay in
// its range, as mmap(2) with MAP_FIXED does. Full regions are returned
// unchanged.
func (rs regions) with(r region) regions {
	first := sort.Search(len(rs), func(i int) bool { return rs[i].limit > r.start })
	last := first
	for last < len(rs) && rs[last].start < r.limit {
		last++
	}
	if len(rs)-(last-first) >= maxRegions {
		return rs
	}
	put := make([]region, 0, 3)
	if first < last && rs[first].start < r.start {
		head := rs[first]
		head.limit = r.start
		put = append(put, head)
	}
	put = append(put, r)
	if first < last && rs[last-1].limit > r.limit {
		tail := rs[last-1]
		tail.offset += r.limit - tail.start
		tail.start = r.limit
		put = append(put, tail)
	}
	return slices.Concat(rs[:first], put, rs[last:])
}
