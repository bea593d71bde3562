// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"debug/elf"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/fleetprof/fleetprof/profiler/unwind"
	"github.com/fleetprof/fleetprof/sample"
)

// walkInvented makes a process and some stacks, and compares the walks of both
// sides.
func walkInvented(t testing.TB, h *goldenHarness, v *inventor, stacks int, seen func(kernelWalk)) {
	p := v.process(t)
	p.show(t, h)
	for range stacks {
		memory := v.memory()
		h.setMemory(memory)
		for range 8 {
			registers, late := v.registers(), v.in(50)
			start := p.start(registers)
			if late {
				start.MayHandOver = 1
			}
			across := false
			kernel := h.walk(start)
			golang := p.walk(registers, func(addr uint64) (uint64, bool) {
				across = across || addr%goldenPageSize > goldenPageSize-8
				return memory.word(addr)
			}, late)
			// The kernel side may give up a word that lies across the end of a page.
			if across {
				continue
			}
			if at := compareWalks(t, kernel, golang, late); at >= 0 {
				v.explain(t, p, registers, memory, golang.frames[max(at-3, 0):min(at+1, len(golang.frames))])
				return
			}
			seen(kernel)
		}
	}
}

// explain shows where a walk started, and the rules of some of its frames.
func (v *inventor) explain(t testing.TB, p *goldenProcess, r unwind.Registers, memory goldenMemory, frames []uint64) {
	t.Helper()
	t.Logf("from %#x in pages %#x", r, slices.Sorted(maps.Keys(memory)))
	for _, addr := range frames {
		if addr != r.IP {
			addr--
		}
		m := p.regions.find(addr)
		if m == nil {
			t.Logf("%#x is in no mapping", addr)
			continue
		}
		table, linked, state := p.shelf.lookup(m.object, addr-m.start+m.offset)
		if table == nil {
			t.Logf("%#x has no table, state %d", addr, state)
			continue
		}
		t.Logf("%#x has rule %v", addr, table.Lookup(linked))
	}
}

// testInvented compares 10,000 walks, and sees that they end for all reasons.
func testInvented(t *testing.T, binary string, machine elf.Machine) {
	h := startHarness(t, binary)
	stops, late, missed, frames, walks := make(map[sample.Stop]int), 0, 0, 0, 0
	for seed := range uint64(250) {
		v := &inventor{Rand: rand.New(rand.NewPCG(seed, 0)), machine: machine}
		walkInvented(t, h, v, 5, func(w kernelWalk) {
			walks++
			frames += len(w.frames)
			switch {
			case w.late:
				late++
			case w.missed:
				missed++
				fallthrough
			default:
				stops[w.stop]++
			}
		})
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	t.Logf("%d walks, %d frames, %d late, %d missed, stops %v", walks, frames, late, missed, stops)
	for _, stop := range []sample.Stop{
		sample.StopEnd, sample.StopFramePointer, sample.StopFault, sample.StopDepth,
		sample.StopUnsupported, sample.StopRegister, sample.StopStuck,
	} {
		if stops[stop] == 0 {
			t.Errorf("no walk ends with %v", stop)
		}
	}
	if late < 100 || missed < 100 || frames < 2*walks {
		t.Errorf("%d walks were late, %d missed something, %d have %d frames", late, missed, walks, frames)
	}
}

// FuzzWalk compares walks for as long as one likes. What the fuzzer chooses is
// where the inventor's random numbers begin.
func FuzzWalk(f *testing.F) {
	harnesses := make(map[elf.Machine]*goldenHarness)
	for _, machine := range goldenMachines {
		harnesses[machine] = startHarness(f, compileHarness(f, machine))
	}
	f.Add(uint64(1), false)
	f.Add(uint64(1), true)
	f.Fuzz(func(t *testing.T, seed uint64, arm bool) {
		machine := elf.EM_X86_64
		if arm {
			machine = elf.EM_AARCH64
		}
		h := harnesses[machine]
		h.t = t
		walkInvented(t, h, &inventor{Rand: rand.New(rand.NewPCG(seed, 1)), machine: machine}, 5, func(kernelWalk) {})
	})
}
