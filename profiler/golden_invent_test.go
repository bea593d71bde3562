// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"debug/elf"
	"math/rand/v2"
	"testing"

	"github.com/fleetprof/fleetprof/bpf"
	"github.com/fleetprof/fleetprof/profiler/unwind"
	"github.com/fleetprof/fleetprof/sample"
)

// inventor makes up processes and stacks: nothing that a compiler would write,
// but nothing that the formats do not allow.
type inventor struct {
	*rand.Rand
	machine elf.Machine
	regions regions
	// stack is where stacks are, in whole pages.
	stack, stackLimit uint64
}

// one of some numbers.
func (v *inventor) one(of ...int) int { return of[v.IntN(len(of))] }

// in tells whether something happens that does in percent of all cases.
func (v *inventor) in(percent int) bool { return v.IntN(100) < percent }

// rule makes a rule of any kind.
func (v *inventor) rule() unwind.Rule {
	kinds := []unwind.Kind{
		unwind.None, unwind.None, unwind.Unsupported, unwind.End, unwind.Signal,
		unwind.Deref, unwind.Deref, unwind.Switch, unwind.Goroutine, 9,
	}
	r := unwind.Rule{Kind: unwind.Offset}
	if v.in(25) {
		r.Kind = kinds[v.IntN(len(kinds))]
	}
	switch r.Kind {
	case unwind.None, unwind.Unsupported, unwind.End, unwind.Signal, unwind.Goroutine:
		return unwind.Rule{Kind: r.Kind}
	}
	if v.machine == elf.EM_X86_64 && v.in(5) {
		r.Kind, r.Add = unwind.PLT, int16(v.IntN(16))
	}
	r.Base = v.base()
	r.CFA = int32(8 * v.one(2, 2, 2, 2, 4, 4, 4, 6, 6, 8, 2*v.IntN(350), v.IntN(700), 0, -v.IntN(9)))
	if r.Kind == unwind.Deref {
		r.Add = int16(8 * v.one(0, 0, 1, -1, 3))
	}
	v.places(&r)
	return r
}

// base makes the base of a rule.
func (v *inventor) base() unwind.Base {
	switch n := v.IntN(100); {
	case n < 70:
		return unwind.SP
	case n < 92:
		return unwind.FP
	case v.machine == elf.EM_AARCH64:
		return unwind.Other + unwind.Base(v.IntN(29)) // less fp, lr and sp
	case n < 96:
		return unwind.BX
	}
	return unwind.Other + unwind.Base(v.one(0, 1, 2, 4, 5, 8, 9, 10, 11, 12, 13, 14, 15))
}

// places makes the places where a rule finds registers.
func (v *inventor) places(r *unwind.Rule) {
	r.RA, r.RAOffset = unwind.AtCFA, int16(v.one(-1, -1, -1, -1, -1, -1, -1, -3, -2, 1))
	r.FP, r.FPOffset = unwind.Place(v.one(0, 0, 1, 1, 1, 2, 3)), int16(v.one(-2, -2, -2, -2, -2, -4, -1, 4))
	if v.in(5) {
		r.RA, r.RAOffset = unwind.InRegister+unwind.Place(v.IntN(16)), 0
	}
	if v.machine == elf.EM_X86_64 {
		r.BX, r.BXOffset = unwind.Place(v.one(0, 0, 1, 1, 2, 3)), int8(v.one(-3, -2, -4, 0, 5))
		return
	}
	if v.in(20) {
		r.RA, r.RAOffset = unwind.Same, 0
	}
	if v.in(30) {
		r.RA |= unwind.Signed
	}
}

// process makes a process of some objects, not all of which have tables.
func (v *inventor) process(t testing.TB) *goldenProcess {
	words := wordRange{end: 1 << 15}
	if v.in(70) { // tables lie across the end of a block
		words.start = bpf.BlockWords - 4*v.IntN(1000)
		words.end += words.start
	}
	p := newGoldenProcess(v.machine, words)
	addr := uint64(1 << 22)
	for i := range 1 + v.IntN(4) {
		regions := 1 + v.IntN(3)
		b, o := inventTable(v.Rand, regions, 1+v.IntN(12)), fileObject(i)
		b.table.Machine = v.machine
		for j := range b.table.Rules[1:] {
			b.table.Rules[1+j] = v.rule()
		}
		switch v.IntN(8) {
		case 0: // absent
		case 1:
			p.shelf.get(o)
			p.shelf.giveUp(o, false)
		default:
			p.place(t, o, b)
		}
		for j, r := range b.table.Regions {
			p.regions = append(p.regions, v.mapping(addr, b.starts[j], r.Limit-r.Start, o, regions == 1))
			addr = p.regions[len(p.regions)-1].limit + uint64(v.one(0, 0, 256, 1<<20))
		}
	}
	for range v.one(0, 0, 1, 2, 70, 300) { // such as JIT code
		p.regions = append(p.regions, region{addr, addr + 64, 0, &sample.Object{Kind: sample.Anonymous}})
		addr += 64 + uint64(v.IntN(2))
	}
	v.regions = p.regions
	return p
}

// mapping makes one that shows all or a part of a segment, and perhaps what is
// around it.
func (v *inventor) mapping(addr, start, length uint64, o *sample.Object, around bool) region {
	if v.in(30) {
		before := v.Uint64N(length/2) &^ 1
		start, length = start+before, length-before-v.Uint64N(length/4)
	}
	if around && v.in(30) && start > 256 {
		start, length = start-256, length+512
	}
	return region{addr, addr + length, start, o}
}

// code makes an address of code, or nearly so.
func (v *inventor) code() uint64 {
	r := v.regions[v.IntN(len(v.regions))]
	if v.in(2) {
		return r.limit + v.Uint64N(300)
	}
	return r.start + v.Uint64N(r.limit-r.start)
}

// up makes a stack address not far above another one, aligned as frames are.
func (v *inventor) up(addr uint64) uint64 {
	return addr&^15 + 16*uint64(v.one(1, 1, 2, 2, 3, 4, v.IntN(50), v.IntN(500)))
}

// word makes a word of the stack at an address: as if every other one were a
// return address, and those between them frame pointers; but not always.
func (v *inventor) word(at uint64) uint64 {
	switch n := v.IntN(100); {
	case n < 2:
		return v.Uint64() >> v.IntN(64)
	case n < 3:
		return 0
	case n < 5:
		return v.up(at) + v.Uint64N(16)
	case n < 8:
		return v.stack + v.Uint64N(v.stackLimit-v.stack)&^7
	case n < 10 && v.machine == elf.EM_AARCH64:
		return v.up(at) | v.Uint64()<<56 // tagged
	case (n < 90) == (at%16 == 0):
		return v.up(at)
	case n < 15 && v.machine == elf.EM_AARCH64:
		return v.code() | v.Uint64()<<48 // signed
	}
	return v.code()
}

// memory makes a stack of which pages may be missing.
func (v *inventor) memory() goldenMemory {
	v.stack = 0x7fff12340000
	v.stackLimit = v.stack + goldenPageSize*uint64(1+v.IntN(6))
	m := make(goldenMemory)
	for at := v.stack; at < v.stackLimit; at += 8 {
		m.set(at, v.word(at))
	}
	for page := v.stack; v.in(60) && page < v.stackLimit; page += goldenPageSize {
		if v.in(25) {
			delete(m, page)
		}
	}
	v.goroutine(m)
	return m
}

// heap is where records of Go's runtime are.
const heap = 0xc000000000

// goroutine makes the records of a thread and its goroutines, whose scheduler has
// the one at heap. A word may be wrong.
func (v *inventor) goroutine(m goldenMemory) {
	thread, curg, schedFP := uint64(heap+512), uint64(184), uint64(96)
	if v.in(50) {
		curg, schedFP = 192, 104
	}
	g := uint64(heap + 2*goldenPageSize - 8*v.one(512, 8, 9))
	m.set(heap+48, thread)
	m.set(thread, heap)
	m.set(thread+curg, g)
	m.set(g+48, thread)
	m.set(g+56, v.up(v.stack))
	m.set(g+64, v.code())
	m.set(g+schedFP, v.up(v.stack))
	switch {
	case v.in(20):
		m.set([]uint64{heap + 48, thread, thread + curg, g + 48}[v.IntN(4)], v.word(0))
	case v.in(20):
		delete(m, heap+goldenPageSize*uint64(v.one(1, 2)))
	}
}

// registers make a start somewhere low in the stack.
func (v *inventor) registers() (r unwind.Registers) {
	sp := v.stack + v.Uint64N(v.stackLimit-v.stack)/4&^7
	if v.in(80) {
		sp &^= 15
	}
	for i := range r.R {
		r.R[i] = v.word(v.up(sp) + 8*uint64(i%2))
	}
	number := map[elf.Machine]struct{ count, sp, fp, g int }{
		elf.EM_X86_64:  {16, 7, 6, 14},
		elf.EM_AARCH64: {32, 31, 29, 28},
	}[v.machine]
	clear(r.R[number.count:])
	r.IP, r.R[number.sp] = v.code(), sp
	if v.in(80) {
		r.R[number.fp] = v.up(sp)
	}
	if v.in(80) {
		r.R[number.g] = heap
	}
	return r
}
