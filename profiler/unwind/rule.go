// SPDX-License-Identifier: Apache-2.0

package unwind

import (
	"fmt"
	"strings"
)

// Kind is what a Rule does. The numbers are part of the format (FORMAT.md).
type Kind uint8

const (
	// None: nothing is known here; go by the frame pointer.
	None Kind = 0
	// Unsupported: there is information, but no Rule can express it.
	Unsupported Kind = 1
	// End: this is the outermost frame.
	End Kind = 2
	// Offset: CFA = Base + CFA.
	Offset Kind = 3
	// Deref: CFA = *(Base + CFA) + Add.
	Deref Kind = 4
	// PLT: CFA = Base + CFA, plus 8 if the low 4 bits of the instruction pointer
	// are Add or more: an entry of a procedure linkage table that pushes half-way.
	PLT Kind = 5
	// Signal: the frame is that of the code which returns from a signal handler;
	// all registers of the interrupted code stand in it, at places that the
	// kernel's ABI fixes. There is no return address: the interrupted code may be
	// at its first instruction.
	Signal Kind = 6
	// Switch: as Offset, but the caller may be on another stack, and so at a lower
	// address. Go code that calls on another stack keeps its caller's frame pointer;
	// where it has no frame of its own (amd64) its direct caller is passed over.
	Switch Kind = 7
	// Goroutine: Go code that the scheduler's stack of a thread was given to by a
	// goroutine, without a frame that leads back. The goroutine's own record does.
	Goroutine Kind = 8
	// Callback: Go code that C called. It has a frame on the thread's own stack,
	// where C runs, and goes on with another one as large on the goroutine's. As
	// Offset, from the SP that the thread's stack was left with.
	Callback Kind = 9
	// CallC: Go code that calls C on the thread's own stack. It puts there, at
	// SP + Add, what tells its SP on the goroutine's stack, which may have moved
	// since. As Offset, from that SP.
	CallC Kind = 10
)

// Base is the register a Rule counts from.
type Base uint8

const (
	// SP is the stack pointer: rsp, sp.
	SP Base = 0
	// FP is the frame pointer: rbp, x29.
	FP Base = 1
	// BX is rbx. The dynamic linker calls the resolver of lazily bound symbols
	// from a frame that only rbx finds. There is no such register on arm64.
	BX Base = 2
	// Other + n is the register with DWARF number n < 32. Its value is known in
	// the innermost frame and in one that a signal interrupted.
	Other Base = 0x20
)

// Place is where the caller's value of a register is found. The numbers are
// part of the format.
type Place uint8

const (
	// Same: still in the register.
	Same Place = 0
	// AtCFA: in memory, at an offset from the CFA.
	AtCFA Place = 1
	// AtFP: in memory, at an offset from this frame's own frame pointer.
	AtFP Place = 2
	// Lost: nowhere to be found.
	Lost Place = 3
	// InRegister + n: in the register with DWARF number n < 32, of a return address
	// only. It is known where Base Other + n is.
	InRegister Place = 0x20
)

// Rule says how to get from a frame to its caller. It is comparable; fields
// that its Kind does not use are zero.
//
// The return address is at AtCFA, InRegister, or Same, which means in the link
// register (arm64); a Rule without any is End or Unsupported.
type Rule struct {
	Kind Kind
	Base Base
	// RA, FP and BX are places of the return address, the caller's frame pointer
	// and the caller's rbx. The high bit of RA, Signed, says that the return
	// address carries a pointer authentication code (arm64).
	RA, FP, BX Place
	// BXOffset is in units of 8 bytes.
	BXOffset int8
	// Add is in bytes (Deref, CallC), or the first of the low bits that count (PLT).
	Add int16
	// CFA is an offset from Base in bytes.
	CFA int32
	// RAOffset and FPOffset are in units of 8 bytes.
	RAOffset, FPOffset int16
}

// Signed is a flag in Rule.RA.
const Signed Place = 0x80

// RuleSize is the length of a Rule in memory, in bytes: the kernel side reads it as it is.
const RuleSize = 16

// String shows a Rule for people, such as "sp+16 ra=c-8 fp=c-16".
func (r Rule) String() string {
	var b strings.Builder
	switch r.Kind {
	case None:
		return "none"
	case Unsupported:
		return "unsupported"
	case End:
		return "end"
	case Signal:
		return "signal"
	case Goroutine:
		return "goroutine"
	case Offset, Switch:
		fmt.Fprintf(&b, "%v%+d", r.Base, r.CFA)
	case Deref:
		fmt.Fprintf(&b, "*(%v%+d)%+d", r.Base, r.CFA, r.Add)
	case PLT:
		fmt.Fprintf(&b, "%v%+d+plt%d", r.Base, r.CFA, r.Add)
	case Callback:
		fmt.Fprintf(&b, "callback %v%+d", r.Base, r.CFA)
	case CallC:
		fmt.Fprintf(&b, "c@%v%+d %v%+d", r.Base, r.Add, r.Base, r.CFA)
	default:
		return fmt.Sprintf("kind %d", r.Kind)
	}
	b.WriteString(" ra=" + (r.RA &^ Signed).string(int(r.RAOffset)))
	if r.RA&Signed != 0 {
		b.WriteString(" signed")
	}
	if r.FP != Same {
		b.WriteString(" fp=" + r.FP.string(int(r.FPOffset)))
	}
	if r.BX != Same {
		b.WriteString(" bx=" + r.BX.string(int(r.BXOffset)))
	}
	return b.String()
}

// String is the name of the register.
func (b Base) String() string {
	switch {
	case b == SP:
		return "sp"
	case b == FP:
		return "fp"
	case b == BX:
		return "bx"
	case b >= Other:
		return fmt.Sprintf("r%d", b-Other)
	}
	return fmt.Sprintf("base %d", uint8(b))
}

// string shows a place; the offset is in units of 8 bytes.
func (p Place) string(offset int) string {
	switch p {
	case Same:
		return "same"
	case AtCFA:
		return fmt.Sprintf("c%+d", offset*8)
	case AtFP:
		return fmt.Sprintf("fp%+d", offset*8)
	}
	if p >= InRegister {
		return fmt.Sprintf("r%d", p-InRegister)
	}
	return "lost"
}
