// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/fleetprof/fleetprof/sample"
)

// The model is an address space of single bytes, as mmap(2) defines it: the
// newest mapping of an address wins.
func TestRegionsAgreeWithAnAddressSpaceOfBytes(t *testing.T) {
	const space = 64
	type content struct {
		object *sample.Object
		offset uint64
	}
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 0))
		var model [space]content
		var rs regions
		for step := range 40 {
			start := random.Uint64N(space - 1)
			length := 1 + random.Uint64N(min(space-start, 16))
			r := region{start, start + length, random.Uint64N(1000), &sample.Object{Path: fmt.Sprint(step)}}
			before := append(regions(nil), rs...)
			next := rs.with(r)
			if fmt.Sprint(before) != fmt.Sprint(rs) {
				t.Fatal("with changed the regions it was given: a parent shares them")
			}
			rs = next
			for a := start; a < start+length; a++ {
				model[a] = content{r.object, r.offset + a - start}
			}
			for a := range uint64(space) {
				var got content
				if found := rs.find(a); found != nil {
					got = content{found.object, found.location(a).Offset}
				}
				if got != model[a] {
					t.Fatalf("seed %d, step %d, address %d: got %v, want %v", seed, step, a, got, model[a])
				}
			}
		}
	}
}

func TestRegionsAreBounded(t *testing.T) {
	var rs regions
	object := &sample.Object{}
	for i := range uint64(maxRegions) {
		rs = append(rs, region{i * 2, i*2 + 1, 0, object})
	}
	if got := len(rs.with(region{1 << 40, 1<<40 + 1, 0, object})); got != maxRegions {
		t.Errorf("%d regions, want the limit of %d", got, maxRegions)
	}
	// Replacing one still works when full.
	other := &sample.Object{}
	if got := rs.with(region{0, 1, 0, other}).find(0).object; got != other {
		t.Error("a full list does not take a replacement")
	}
}
