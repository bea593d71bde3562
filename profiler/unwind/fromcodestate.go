// SPDX-License-Identifier: Apache-2.0

package unwind

import "math"

// Registers that code is followed for. Callees preserve them.
const (
	keptFP = iota
	keptBX
	kepts
	// otherRegister is any that is not followed.
	otherRegister = -1
)

// unknown is where a register stands that is not known to be in the frame.
const unknown = math.MinInt32

// maxFrame bounds how far from the CFA anything is followed, in bytes.
const maxFrame = 1 << 28

// belowStack is how far below SP code may keep things, in bytes: System V psABI for
// AMD64, 3.2.2, the red zone.
const belowStack = 128

// codeState is what is known before an instruction. Places are how many bytes below
// the CFA they are.
type codeState struct {
	// sp and fp are where the registers point, or unknown.
	sp, fp int32
	// saved is where the caller's values are, 0 for nowhere.
	saved [kepts]int32
	// changed says that the register no longer holds the caller's value.
	changed [kepts]bool
	// noReturn says that the return address has been overwritten or taken off.
	noReturn bool
	// system says that a system call was made before anything was put on the stack: it
	// may have begun a thread, on a stack of its own.
	system bool
	// kind is End or Signal for code that nobody called, else None.
	kind Kind
}

// called is the state at the first instruction of a function on amd64.
var called = codeState{sp: 8, fp: unknown}

// lost says that there is no rule, nor will there be one further on.
func (s *codeState) lost() bool {
	return s.kind == None && (s.noReturn || s.sp == unknown && s.fp == unknown)
}

// balanced says that a function may return: the stack is as its caller left it.
func (s *codeState) balanced() bool {
	return s.kind == End || s.sp == called.sp && !s.changed[keptFP] && !s.noReturn
}

// join is what is known where two ways meet.
func (s codeState) join(t codeState) codeState {
	if s.kind != t.kind {
		return codeState{sp: unknown, fp: unknown}
	}
	if s.sp != t.sp {
		s.sp = unknown
	}
	if s.fp != t.fp {
		s.fp = unknown
	}
	for i := range kepts {
		if s.saved[i] != t.saved[i] {
			s.saved[i] = 0
		}
		s.changed[i] = s.changed[i] || t.changed[i]
	}
	s.noReturn = s.noReturn || t.noReturn
	s.system = s.system && t.system
	return s
}

// rule converts the state.
func (s *codeState) rule() Rule {
	if s.kind != None {
		return Rule{Kind: s.kind}
	}
	r := Rule{Kind: Offset, RA: AtCFA, RAOffset: -1}
	switch {
	case s.noReturn:
		return Rule{}
	case s.sp >= 8:
		r.Base, r.CFA = SP, s.sp
	case s.sp == unknown && s.fp >= 8:
		r.Base, r.CFA = FP, s.fp
	default:
		return Rule{}
	}
	r.FP, r.FPOffset = keptAt[int16](s, keptFP)
	r.BX, r.BXOffset = keptAt[int8](s, keptBX)
	return r
}

func keptAt[T int8 | int16](s *codeState, register int) (Place, T) {
	at := int64(s.saved[register])
	switch {
	case at != 0 && at%8 == 0 && fits[T](-at/8):
		return AtCFA, T(-at / 8)
	case !s.changed[register]:
		return Same, 0
	}
	return Lost, 0
}

// effect is what an instruction does to what is followed.
type effect uint8

const (
	effectNone effect = iota
	// effectPush and effectPop move a register.
	effectPush
	effectPop
	// effectMoveSP adds to SP.
	effectMoveSP
	// effectSetSP and effectSetFP set the register to another one and an offset.
	effectSetSP
	effectSetFP
	// effectLeave is SP = FP and a pop of FP.
	effectLeave
	// effectStore and effectLoad move a register to or from memory.
	effectStore
	effectLoad
	// effectSystem is a system call.
	effectSystem
	// effectOutermost sets FP to 0, which is how a new thread marks its first frame.
	effectOutermost
)

// flow is where an instruction goes on.
type flow uint8

const (
	flowNext flow = iota
	flowJump
	flowBranch
	flowCall
	flowReturn
	// flowIndirect is a jump to an address in a register or in memory.
	flowIndirect
	// flowStop: nowhere.
	flowStop
)

// instruction is one decoded instruction.
type instruction struct {
	size   uint8
	flow   flow
	effect effect
	// register is what is moved: followed, or otherRegister.
	register int8
	// base is the register that an address or value counts from, with offset n; it
	// is SP, FP, or Other for those that are not followed.
	base Base
	n    int32
	// writes says which of those followed are overwritten.
	writes [kepts]bool
	// target is where a direct jump, branch or call leads; 0 if indirect.
	target uint64
	// mention is an address that is computed, 0 for none, and holds the number of the
	// register plus 1 that is set to it.
	mention uint64
	holds   uint8
	// indexes is the number of the register plus 1 that holds a table of which a number
	// is read.
	indexes uint8
	// limit of a comparison with a constant is the constant plus 1.
	limit uint32
	// above says that the branch is taken by what is larger, unsigned.
	above bool
	// table is the address of a table of addresses that an indirect jump goes by.
	table uint64
	// fixed says that it goes by a place that is always the same: to another function.
	fixed bool
}

// after is the state behind an instruction.
func (s codeState) after(in *instruction) codeState {
	if s.kind != None {
		return s
	}
	switch in.effect {
	case effectPush:
		s.moveSP(-8)
		if s.sp != unknown {
			s.store(int(in.register), s.sp)
		}
	case effectPop:
		if s.sp != unknown {
			s.load(int(in.register), s.sp)
		} else {
			s.overwrite(int(in.register))
		}
		s.moveSP(8)
	case effectMoveSP:
		s.moveSP(in.n)
	case effectSetSP:
		s.sp = s.at(in.base, in.n)
	case effectSetFP:
		at := s.at(in.base, in.n)
		s.overwrite(keptFP)
		s.fp = at
	case effectLeave:
		if s.sp = s.fp; s.sp != unknown {
			s.load(keptFP, s.sp)
		} else {
			s.overwrite(keptFP)
		}
		s.moveSP(8)
	case effectStore:
		if at := s.at(in.base, in.n); at != unknown {
			s.store(int(in.register), at)
		}
	case effectLoad:
		if at := s.at(in.base, in.n); at != unknown {
			s.load(int(in.register), at)
		} else {
			s.overwrite(int(in.register))
		}
	case effectSystem:
		s.system = s.sp == called.sp
	case effectOutermost:
		if s.system && s.sp == called.sp && s.saved[keptFP] == 0 && !s.changed[keptFP] {
			return codeState{sp: unknown, fp: unknown, kind: End}
		}
		s.overwrite(keptFP)
	}
	for i, written := range in.writes {
		if written {
			s.overwrite(i)
		}
	}
	return s
}

// at is where a register plus n points.
func (s *codeState) at(base Base, n int32) int32 {
	from := int32(unknown)
	switch base {
	case SP:
		from = s.sp
	case FP:
		from = s.fp
	}
	if at := int64(from) - int64(n); from != unknown && at > -maxFrame && at < maxFrame {
		return int32(at)
	}
	return unknown
}

func (s *codeState) moveSP(n int32) {
	s.sp = s.at(SP, n)
	if s.sp == unknown {
		return
	}
	if s.sp < 8 {
		s.noReturn = true // popped: what calls do next overwrites it
	}
	for i, at := range s.saved {
		if at > s.sp+belowStack {
			s.saved[i] = 0
		}
	}
}

// store takes note that a register is stored.
func (s *codeState) store(register int, at int32) {
	switch {
	case at == 8:
		s.noReturn = true
	case register != otherRegister && !s.changed[register]:
		if s.saved[register] == 0 {
			s.saved[register] = at
		}
	default:
		for i, saved := range s.saved {
			if saved == at {
				s.saved[i] = 0
			}
		}
	}
}

// load takes note that a register is loaded.
func (s *codeState) load(register int, at int32) {
	if register == otherRegister {
		return
	}
	restored := at != 0 && s.saved[register] == at
	s.overwrite(register)
	if restored {
		s.changed[register], s.saved[register] = false, 0
	}
}

func (s *codeState) overwrite(register int) {
	if register == otherRegister {
		return
	}
	s.changed[register] = true
	if register == keptFP {
		s.fp = unknown
	}
}
