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
			var ok bool
			if rs, ok = rs.insert(r); !ok {
				t.Fatal("no room")
			}
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
		rs, _ = rs.insert(region{i * 2, i*2 + 1, 0, object})
	}
	full := len(rs)
	if full > maxRegions {
		t.Errorf("%d regions, want %d at the most", full, maxRegions)
	}
	rs, ok := rs.insert(region{1 << 40, 1<<40 + 1, 0, object})
	if ok || len(rs) != full || rs.find(1<<40) != nil {
		t.Errorf("a full list took another region: ok %v, %d regions", ok, len(rs))
	}
	// What a mapping replaces is gone, even if there is no room for the new one.
	rs, _ = rs.insert(region{0, 3, 0, &sample.Object{}})
	if r := rs.find(0); r != nil && r.object == object {
		t.Error("a replaced region still answers")
	}
}

func TestLowerLeavesOutVsyscall(t *testing.T) {
	program := region{0x1000, 0x2000, 0, &sample.Object{}}
	vsyscall := region{0xffffffffff600000, 0xffffffffff601000, 0, &sample.Object{}}
	for _, rs := range []regions{{program, vsyscall}, {program}} {
		if got := rs.lower(); len(got) != 1 || got[0] != program {
			t.Errorf("got %v", got)
		}
	}
	if got := (regions{vsyscall}).lower(); len(got) != 0 {
		t.Errorf("got %v", got)
	}
}
