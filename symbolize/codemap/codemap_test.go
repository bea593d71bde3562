// SPDX-License-Identifier: Apache-2.0

package codemap

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// plain does the same by looking at every piece there is.
type plain []Code

func (p *plain) add(c Code) {
	p.remove(c.Start, c.limit())
	*p = append(*p, c)
}

func (p *plain) remove(start, limit uint64) {
	*p = slices.DeleteFunc(*p, func(old Code) bool { return old.Start < limit && start < old.limit() })
}

func (p plain) find(addr uint64) (Code, bool) {
	for _, c := range p {
		if c.Start <= addr && addr < c.limit() {
			return c, true
		}
	}
	return Code{}, false
}

// Pieces of all sizes at random places, in random order: the map knows at any address what the plain
// list knows, and takes no more memory than half-filled blocks of what it holds.
func TestMapAgreesWithAList(t *testing.T) {
	for _, spread := range []uint64{200, 5_000, 200_000} {
		rng := rand.New(rand.NewPCG(1, spread))
		var m Map
		var want plain
		for i := range 4_000 {
			c := Code{Start: rng.Uint64N(spread), Size: 1 + rng.Uint32N(40), Offset: int64(i)}
			if rng.IntN(500) == 0 {
				c.Size = uint32(spread / 3)
			}
			m.Add(c)
			want.add(c)
			if rng.IntN(50) == 0 {
				m.Remove(c.Start+5, c.Start+15)
				want.remove(c.Start+5, c.Start+15)
			}
			for range 5 {
				addr := rng.Uint64N(spread + 50)
				got, found := m.Find(addr)
				if w, there := want.find(addr); found != there || found && got != w {
					t.Fatalf("spread %d, step %d: at %d %+v %v, want %+v %v", spread, i, addr, got, found, w, there)
				}
			}
		}
		total := 0
		for _, b := range m.blocks {
			total += len(b)
			if len(b) == 0 || cap(b) != blockLength {
				t.Errorf("a block of %d with room for %d", len(b), cap(b))
			}
		}
		if total != len(want) || m.Bytes() != int64(len(m.blocks))*blockBytes {
			t.Errorf("%d pieces in %d bytes, want %d pieces", total, m.Bytes(), len(want))
		}
	}
}

func TestMapAtTheEndsOfMemory(t *testing.T) {
	var m Map
	m.Add(Code{Start: 10})
	m.Add(Code{Start: math.MaxUint64, Size: 10})
	if _, ok := m.Find(10); ok || m.Bytes() != 0 {
		t.Error("a piece without size was kept")
	}
	m.Remove(0, math.MaxUint64)
	m.Add(Code{Start: 0, Size: 1})
	m.Add(Code{Start: math.MaxUint64 - 10, Size: 10})
	if _, ok := m.Find(0); !ok {
		t.Error("nothing at 0")
	}
	if _, ok := m.Find(math.MaxUint64 - 1); !ok {
		t.Error("nothing at the end")
	}
}

// A file in ascending order fills its blocks.
func TestAscendingOrderFillsBlocks(t *testing.T) {
	var m Map
	for i := range 10 * blockLength {
		m.Add(Code{Start: uint64(i) * 16, Size: 16})
	}
	if len(m.blocks) != 10 {
		t.Errorf("%d blocks, want 10", len(m.blocks))
	}
}

func BenchmarkAdd(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 2))
	var m Map
	for i := 0; b.Loop(); i++ {
		m.Add(Code{Start: rng.Uint64N(64 << 20), Size: 100, Offset: int64(i)})
	}
}
