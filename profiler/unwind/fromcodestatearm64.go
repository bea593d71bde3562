// SPDX-License-Identifier: Apache-2.0

package unwind

// storeAll takes note of what a store puts on the stack.
func (s *codeState) storeAll(in *instruction) {
	at := s.at(in.base, in.n)
	if at == unknown {
		return
	}
	if in.width == 0 { // one register of amd64
		s.store(int(in.register), at, 8)
		return
	}
	s.store(otherRegister, at, in.stored)
	s.store(int(in.register), at, in.width)
	s.store(int(in.second), at-in.width, in.stored-in.width)
}

// loadAll takes note of what a load takes from memory.
func (s *codeState) loadAll(in *instruction) {
	at, behind := s.at(in.base, in.n), int32(unknown)
	if at != unknown {
		behind = at - in.width
	}
	s.loadFrom(int(in.register), at)
	if in.width != 0 {
		s.loadFrom(int(in.second), behind)
	}
}

func (s *codeState) loadFrom(register int, at int32) {
	if at != unknown {
		s.load(register, at)
	} else {
		s.overwrite(register)
	}
}

// afterARM64 is for effects that only instructions of arm64 have.
func (s *codeState) afterARM64(in *instruction) {
	switch in.effect {
	case effectSign:
		s.noReturn = s.noReturn || s.signed
		s.signed = true
	case effectAuthenticate:
		s.noReturn = s.noReturn || !s.signed
		s.signed = false
	case effectMoveSPBy:
		if s.counter == in.counter {
			s.moveSP(in.n * s.constant)
		} else {
			s.sp = unknown
		}
	case effectConstantHigh:
		if s.counter == in.counter && s.constant < 1<<16 {
			s.constant += in.n
		} else {
			s.forget(in.wrote)
		}
	}
}

// finish does what comes last: SP moves behind a load or store, and registers no longer
// hold what they did.
func (s *codeState) finish(in *instruction) {
	s.moveSP(in.move)
	switch in.effect {
	case effectConstant:
		s.counter, s.constant = in.counter, in.n
	case effectThread:
		s.thread = s.sp == s.top()
	case effectConstantHigh:
	default:
		s.forget(in.wrote)
	}
	switch in.flow {
	case flowBranch:
		s.forked = false // told thread and parent apart
	case flowCall:
		s.forget(callResults) // others are not used later unless the callee leaves them alone
	}
	if s.system && s.sp != unknown && s.sp < 0 { // pops what it has not pushed: a thread's own stack
		*s = codeState{sp: unknown, fp: unknown, kind: End, link: true}
	}
}

// callResults has a bit for each register that functions return results with: AAPCS64,
// 6.9, x0 to x8.
const callResults = 1<<9 - 1

// forget takes note that general registers are overwritten.
func (s *codeState) forget(registers uint32) {
	if s.counter != 0 && registers>>(s.counter-1)&1 != 0 {
		s.counter, s.constant = 0, 0
	}
	s.thread = s.thread && registers>>armSystemCall&1 == 0
}
