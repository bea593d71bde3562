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
	// kinds are those of the rules, but for the common one.
	kinds   []unwind.Kind
	regions regions
	// stack is where stacks are, in whole pages, and low about where walks start.
	stack, low, stackLimit uint64
	// spots are where Go code changes stacks, g is the record of a goroutine.
	spots []uint64
	g     uint64
}

// one of some numbers.
func (v *inventor) one(of ...int) int { return of[v.IntN(len(of))] }

// in tells whether something happens that does in percent of all cases.
func (v *inventor) in(percent int) bool { return v.IntN(100) < percent }

// rareKinds are the kinds of rules but for the common one.
var rareKinds = []unwind.Kind{
	unwind.None, unwind.None, unwind.Unsupported, unwind.End, unwind.Signal,
	unwind.Deref, unwind.Deref, unwind.Switch, unwind.Goroutine, unwind.Callback, unwind.CallC, 99,
}

// favourites are kinds that a process may have many rules of.
var favourites = [...][]unwind.Kind{
	rareKinds, rareKinds, rareKinds, {unwind.Signal}, {unwind.Signal}, {unwind.Callback, unwind.CallC}, {unwind.Goroutine, unwind.CallC},
}

// rule makes a rule of any kind.
func (v *inventor) rule() unwind.Rule {
	r := unwind.Rule{Kind: unwind.Offset}
	if v.in(25) {
		r.Kind = v.kinds[v.IntN(len(v.kinds))]
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
	switch r.Kind {
	case unwind.Deref:
		r.Add = int16(8 * v.one(0, 0, 1, -1, 3))
	case unwind.Callback, unwind.CallC:
		return v.changeStacks(r)
	}
	v.places(&r)
	return r
}

// callbackFrame is the size of all frames of callbacks.
const callbackFrame = 64

// changeStacks completes a rule of Go code that changes between two stacks.
func (v *inventor) changeStacks(r unwind.Rule) unwind.Rule {
	r.Base, r.RA, r.RAOffset = unwind.SP, unwind.AtCFA, -1
	switch {
	case r.Kind == unwind.Callback:
		r.CFA = callbackFrame
	case v.in(30):
		r.Add = 16
	}
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
	v.kinds = favourites[v.IntN(len(favourites))]
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
	if len(v.spots) > 0 && v.in(5) {
		return v.spots[v.IntN(len(v.spots))]
	}
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
	case n < 8: // back to where memory has been read already
		return v.low + 8*uint64(v.IntN(20))
	case n < 10:
		return v.stack + v.Uint64N(v.stackLimit-v.stack)&^7
	case n < 12 && v.machine == elf.EM_AARCH64:
		return v.up(at) | v.Uint64()<<56 // tagged
	case (n < 90) == (at%16 == 0):
		return v.up(at)
	case n < 20 && v.machine == elf.EM_AARCH64:
		return v.code() | v.Uint64()<<48 // signed
	}
	return v.code()
}

// memory makes a stack of which pages may be missing.
func (v *inventor) memory() goldenMemory {
	v.stack = 0x7fff12340000
	v.stackLimit = v.stack + goldenPageSize*uint64(1+v.IntN(6))
	v.spots = nil
	v.g = heap + 2*goldenPageSize - 8*uint64(v.one(512, 8, 9))
	v.low = v.stack + v.Uint64N(v.stackLimit-v.stack)/4&^15
	m := make(goldenMemory)
	for at := v.stack; at < v.stackLimit; at += 8 {
		m.set(at, v.word(at))
	}
	for range 40 {
		v.changesStacks(m)
	}
	for page := v.stack; v.in(60) && page < v.stackLimit; page += goldenPageSize {
		if v.in(25) {
			delete(m, page)
		}
	}
	v.goroutine(m)
	return m
}

// changesStacks writes what Go code leaves on the stack where it changes to
// another one.
func (v *inventor) changesStacks(m goldenMemory) {
	at := v.stack + 512 + v.Uint64N(v.stackLimit-v.stack-1024)&^15
	v.spots = append(v.spots, at)
	outer := v.spots[v.IntN(len(v.spots))] - callbackFrame
	switch depth := 16 * v.Uint64N(600); {
	case v.in(50): // a callback: its arguments, the same for all, and the SP of the outer one
		for i, word := range []uint64{1, 2, 1} {
			m.set(at+uint64(8*i), word)
		}
		m.set(at-callbackFrame, outer)
		m.set(at-callbackFrame+16, outer)
	case v.in(30): // a call of C, not by a goroutine
		v.setPair(m, at, at+16*v.Uint64N(8), 0)
	default:
		v.setPair(m, at, depth, v.g)
	}
}

// setPair writes two words at an address, on arm64 in the other order.
func (v *inventor) setPair(m goldenMemory, addr, first, second uint64) {
	if v.machine == elf.EM_AARCH64 {
		first, second = second, first
	}
	m.set(addr, first)
	m.set(addr+8, second)
}

// heap is where records of Go's runtime are.
const heap = 0xc000000000

// goroutine makes the records of a thread and its goroutines: the scheduler has
// the one at heap, the program the one at v.g. A word may be wrong, or a page
// missing.
func (v *inventor) goroutine(m goldenMemory) {
	thread, curg, schedFP := uint64(heap+512), uint64(184), uint64(96)
	if v.in(50) {
		curg, schedFP = 192, 104
	}
	for at, value := range map[uint64]uint64{
		heap + 48: thread, heap + 56: v.spots[v.IntN(len(v.spots))] - callbackFrame,
		thread: heap, thread + 184: 0, thread + 192: 0,
		v.g: v.stack, v.g + 8: v.stackLimit - 16*uint64(v.IntN(100)), v.g + 48: thread,
		v.g + 56: v.up(v.stack), v.g + 64: v.code(), v.g + schedFP: v.up(v.stack),
	} {
		m.set(at, value)
	}
	m.set(thread+curg, v.g)
	switch {
	case v.in(20):
		m.set([]uint64{heap + 48, thread, thread + curg, v.g + 48}[v.IntN(4)], v.word(0))
	case v.in(20):
		delete(m, heap+goldenPageSize*uint64(v.one(1, 2)))
	}
}

// registers make a start somewhere low in the stack.
func (v *inventor) registers() (r unwind.Registers) {
	sp := v.low + 8*uint64(v.one(0, 2, 4, v.IntN(64)))
	if v.in(20) {
		sp = v.up(sp)
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
		r.R[number.g] = []uint64{heap, v.g}[v.IntN(2)]
	}
	return r
}
