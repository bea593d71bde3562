// SPDX-License-Identifier: Apache-2.0

package unwind

import (
	"debug/elf"
	"encoding/binary"

	"github.com/fleetprof/fleetprof/sample"
)

// Registers is where a walk starts.
type Registers struct {
	IP uint64
	// R holds the general registers by their DWARF numbers; the stack pointer is
	// one of them: R[7] on amd64, R[31] on arm64.
	R [32]uint64
}

// Process is what a walk needs to see of a process. Its functions are called by
// Walk only.
type Process struct {
	Machine elf.Machine
	// Table finds the table for an address and what to subtract from addresses to
	// get them as linked. Code without a table, nil, is walked by the frame
	// pointer. Any other stop than StopNone ends the walk.
	Table func(addr uint64) (t *Table, bias uint64, stop sample.Stop)
	// Word reads 8 bytes of memory.
	Word func(addr uint64) (value uint64, ok bool)
}

// Memory is a copy of memory.
type Memory struct {
	Start uint64
	Bytes []byte
}

// Word reads 8 bytes of the copy, little-endian.
func (m Memory) Word(addr uint64) (uint64, bool) {
	off := addr - m.Start
	if n := uint64(len(m.Bytes)); off > n || n-off < 8 {
		return 0, false
	}
	return binary.LittleEndian.Uint64(m.Bytes[off:]), true
}

// more is what a step returns when there is another frame.
const more = sample.StopNone

// Walk returns the addresses of a stack, innermost first and limit at most, and
// why there are no more. All but the first point behind the instruction of their
// frame: they are return addresses or, where a signal interrupted the frame, one
// more than the address of the interrupted instruction.
func Walk(p *Process, start Registers, limit int) ([]uint64, sample.Stop) {
	a, ok := archOf(p.Machine)
	if !ok {
		return nil, sample.StopUnsupported
	}
	w := walk{Process: p, arch: a, ip: start.IP, exact: true}
	w.setAll(start.R)
	var addrs []uint64
	for {
		if len(addrs) == limit {
			return addrs, sample.StopDepth
		}
		addr := w.ip
		if w.exact && len(addrs) > 0 {
			addr++
		}
		addrs = append(addrs, addr)
		stop := w.step()
		if stop == sample.StopCode && len(addrs) > 1 && !w.fromNowhere {
			addrs = addrs[:len(addrs)-1] // nothing returns to where no code is
		}
		if stop != more {
			return addrs, stop
		}
	}
}

// addressMask clears the pointer authentication code of an arm64 address. User
// space lies below 1<<48, unless a program asks for more (mmap(2)).
const addressMask = 1<<48 - 1

// known is a register's value, if it is known.
type known struct {
	value uint64
	ok    bool
}

// walk is a walk under way: the registers of the frame it has come to.
type walk struct {
	*Process
	arch *arch
	ip   uint64
	// exact says that ip is the address of the frame's next instruction rather
	// than a return address: in the innermost frame and in interrupted ones.
	exact bool
	// fromNowhere says that the frame's return address is 0.
	fromNowhere bool
	// sp is unknown on arm64 once the walk went by a frame pointer, which does not
	// tell the size of a frame there. Only exact frames know all registers.
	sp, fp, bx known
	// all holds the registers of the last exact frame.
	all [32]uint64
	// callback is the SP on the thread's own stack of the next frame of Go code that
	// C called; 0 for the innermost one, which the thread's record knows.
	callback uint64
}

// setAll sets the registers of an exact frame.
func (w *walk) setAll(registers [32]uint64) {
	w.all = registers
	w.sp, w.fp = known{registers[w.arch.sp], true}, known{registers[w.arch.fp], true}
	w.bx = known{}
	if w.arch.bx != noRegister {
		w.bx = known{registers[w.arch.bx], true}
	}
}

// step goes to the caller.
func (w *walk) step() sample.Stop {
	r, stop := w.rule()
	if stop != more {
		return stop
	}
	switch r.Kind {
	case None:
		return w.byFramePointer()
	case Offset, Deref, PLT, Switch:
		if r.Base == SP && !w.sp.ok {
			return w.byFramePointer()
		}
		return w.byRule(r)
	case Signal:
		return w.fromSignal()
	case Goroutine:
		return w.toGoroutine()
	case Callback:
		return w.toThreadStack(r)
	case CallC:
		return w.toGoroutineStack(r)
	case End:
		return sample.StopEnd
	}
	return sample.StopUnsupported
}

// rule looks up the rule for the frame. A return address may lie behind the end
// of a function whose last instruction is a call: the call counts.
func (w *walk) rule() (Rule, sample.Stop) {
	addr := w.ip
	if !w.exact {
		addr--
	}
	t, bias, stop := w.Table(addr)
	if stop != more || t == nil {
		return Rule{}, stop
	}
	return t.Lookup(addr - bias), more
}

func (w *walk) byRule(r Rule) sample.Stop {
	cfa, stop := w.cfa(r)
	if stop != more {
		return stop
	}
	if r.Kind != Switch && w.sp.ok && (cfa < w.sp.value || cfa == w.sp.value && r.RA&^Signed == AtCFA) {
		return sample.StopStuck
	}
	ra, stop := w.returnAddress(r, cfa)
	if stop != more {
		return stop
	}
	if ra == 0 {
		w.fromNowhere = true
		return sample.StopCode // outermost frames have a rule that says so
	}
	fp := w.saved(r.FP, int64(r.FPOffset), cfa, w.fp)
	bx := w.saved(r.BX, int64(r.BXOffset), cfa, w.bx)
	return w.called(ra, known{cfa, true}, fp, bx)
}

// cfa computes the canonical frame address.
func (w *walk) cfa(r Rule) (uint64, sample.Stop) {
	base := w.base(r.Base)
	if !base.ok {
		return 0, sample.StopRegister
	}
	cfa := base.value + uint64(int64(r.CFA))
	switch r.Kind {
	case Deref:
		value, stop := w.load(cfa)
		return value + uint64(int64(r.Add)), stop
	case PLT:
		if w.ip&15 >= uint64(r.Add) {
			cfa += 8
		}
	}
	return cfa, more
}

func (w *walk) base(b Base) known {
	switch {
	case b == SP:
		return w.sp
	case b == FP:
		return w.fp
	case b == BX:
		return w.bx
	case b >= Other && w.exact:
		return known{w.all[(b-Other)%32], true}
	}
	return known{}
}

// returnAddress finds the return address. In the link register it is in exact
// frames only, others have called since.
func (w *walk) returnAddress(r Rule, cfa uint64) (uint64, sample.Stop) {
	var ra uint64
	stop := more
	switch place := r.RA &^ Signed; {
	case place == AtCFA:
		ra, stop = w.load(cfa + 8*uint64(int64(r.RAOffset)))
	case w.exact && place >= InRegister:
		ra = w.all[(place-InRegister)%32]
	case w.exact && place == Same && w.arch.link:
		ra = w.all[w.arch.ra]
	default:
		return 0, sample.StopRegister
	}
	if r.RA&Signed != 0 {
		ra &= addressMask
	}
	return ra, stop
}

// saved finds the caller's value of a register. offset is in units of 8 bytes.
func (w *walk) saved(p Place, offset int64, cfa uint64, now known) known {
	base := cfa
	switch p {
	case Same:
		return now
	case AtFP:
		if !w.fp.ok {
			return known{}
		}
		base = w.fp.value
	case Lost:
		return known{}
	}
	value, ok := w.Word(base + 8*uint64(offset))
	return known{value, ok}
}

// byFramePointer goes to the caller by the chain of frame pointers: what the
// frame pointer points to is the caller's, and then comes the return address.
func (w *walk) byFramePointer() sample.Stop {
	fp := w.fp.value & w.arch.pointer
	if !w.fp.ok || fp == 0 || fp%8 != 0 || w.sp.ok && fp < w.sp.value-w.arch.belowSP {
		return sample.StopFramePointer
	}
	next, stop := w.load(fp)
	if stop != more {
		return stop
	}
	next &= w.arch.pointer
	ra, stop := w.load(fp + 8)
	if stop != more {
		return stop
	}
	if w.arch.link {
		ra &= addressMask // it may be signed
	}
	// A frame pointer that does not lead up is none: only rules help then.
	up := next == 0 || next > fp
	return w.called(ra, known{fp + 16, !w.arch.link}, known{next, up}, known{})
}

// fromSignal goes to the code that a signal interrupted. All its registers stand
// where the kernel has put them.
func (w *walk) fromSignal() sample.Stop {
	if !w.sp.ok {
		return sample.StopRegister
	}
	context := w.sp.value
	ip, stop := w.load(context + uint64(w.arch.signalIP))
	if stop != more {
		return stop
	}
	var registers [32]uint64
	for i, offset := range w.arch.signal {
		if stop != more {
			return stop
		}
		registers[i], stop = w.load(context + uint64(offset))
	}
	if stop != more {
		return stop
	}
	w.ip, w.exact = ip, true
	w.setAll(registers)
	return more
}

// called sets the registers of the caller. A return address of 0 is put where
// nothing has called.
func (w *walk) called(ra uint64, sp, fp, bx known) sample.Stop {
	w.ip, w.exact = ra, false
	w.sp, w.fp, w.bx = sp, fp, bx
	if ra == 0 {
		return sample.StopEnd
	}
	return more
}

func (w *walk) load(addr uint64) (uint64, sample.Stop) {
	value, ok := w.Word(addr)
	if !ok {
		return 0, sample.StopFault
	}
	return value, more
}
