// SPDX-License-Identifier: Apache-2.0

package unwind

import "math"

// Registers that code is followed for. Callees preserve them.
const (
	keptFP = iota
	keptBX
	// keptRA is the link register of arm64. Calls overwrite it.
	keptRA
	kepts
	// otherRegister is any that is not followed.
	otherRegister = -1
)

// unknown is where a register stands that is not known to be in the frame.
const unknown = math.MinInt32

// maxFrame bounds how far from the CFA anything is followed, in bytes.
const maxFrame = 1 << 28

// belowStack is how far below SP code may keep things on amd64, in bytes: System V psABI
// for AMD64, 3.2.2, the red zone. On arm64 there is none (AAPCS64, 6.4.5.1).
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

	// link says that calls leave the return address in a register; the rest is for that.
	link bool
	// signed says that the return address has an authentication code.
	signed bool
	// thread says that the next system call may begin a thread, forked that the last one
	// may just have: SP may be that of a stack on which nothing was called.
	thread, forked bool
	// counter is the number plus 1 of a register that holds a constant, 0 for none.
	counter  uint8
	constant int32
}

// calledState is the state at the first instruction of a function.
func calledState(link bool) codeState {
	s := codeState{fp: unknown, link: link}
	s.sp = s.top()
	return s
}

// top is where SP points at the first instruction of a function.
func (s *codeState) top() int32 {
	if s.link {
		return 0
	}
	return 8
}

// lost says that there is no rule, nor will there be one further on.
func (s *codeState) lost() bool {
	return s.kind == None && (s.noReturn || s.sp == unknown && s.fp == unknown || s.changed[keptRA] && s.saved[keptRA] == 0)
}

// balanced says that a function may return: the stack is as its caller left it.
func (s *codeState) balanced() bool {
	return s.kind == End ||
		s.sp == s.top() && !s.changed[keptFP] && !s.changed[keptRA] && !s.noReturn && !s.signed && !s.forked
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
	s.noReturn = s.noReturn || t.noReturn || s.signed != t.signed
	s.system = s.system && t.system
	s.thread, s.forked = s.thread && t.thread, s.forked || t.forked
	if s.counter != t.counter || s.constant != t.constant {
		s.counter, s.constant = 0, 0
	}
	return s
}

// rule converts the state.
func (s *codeState) rule() Rule {
	if s.kind != None {
		return Rule{Kind: s.kind}
	}
	r := Rule{Kind: Offset, RA: AtCFA, RAOffset: -1}
	if s.link {
		r.RA, r.RAOffset = keptAt[int16](s, keptRA)
	}
	switch {
	case s.forked:
		return Rule{Kind: Unsupported}
	case s.noReturn || r.RA == Lost:
		return Rule{}
	case s.sp >= s.top():
		r.Base, r.CFA = SP, s.sp
	case s.sp == unknown && s.fp >= 8:
		r.Base, r.CFA = FP, s.fp
	default:
		return Rule{}
	}
	if s.signed {
		r.RA |= Signed
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

// after is the state behind an instruction.
func (s codeState) after(in *instruction) codeState {
	if s.kind != None {
		return s
	}
	switch in.effect {
	case effectPush:
		s.moveSP(-8)
		if s.sp != unknown {
			s.store(int(in.register), s.sp, 8)
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
		s.storeAll(in)
	case effectLoad:
		s.loadAll(in)
	case effectSystem:
		s.system = s.sp == s.top()
		s.thread, s.forked = false, s.thread && s.system
	case effectOutermost:
		if s.system && s.sp == s.top() && s.saved[keptFP] == 0 && !s.changed[keptFP] {
			return codeState{sp: unknown, fp: unknown, kind: End}
		}
		s.overwrite(keptFP)
	default:
		s.afterARM64(in)
	}
	for i, written := range in.writes {
		if written {
			s.overwrite(i)
		}
	}
	if s.link {
		s.finish(in)
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
	if s.sp < s.top() {
		s.noReturn = true // popped: what calls do next overwrites it
	}
	below := int32(belowStack)
	if s.link {
		below = 0
	}
	for i, at := range s.saved {
		if at > s.sp+below {
			s.saved[i] = 0
		}
	}
}

// store takes note that a register is stored, with what else is: size bytes.
func (s *codeState) store(register int, at, size int32) {
	switch {
	case at == 8 && !s.link:
		s.noReturn = true
	case register != otherRegister && !s.changed[register]:
		if s.saved[register] == 0 {
			s.saved[register] = at
		}
	default:
		for i, saved := range s.saved {
			if saved < at+8 && saved > at-size {
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
