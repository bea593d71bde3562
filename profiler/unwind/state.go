// SPDX-License-Identifier: Apache-2.0

package unwind

import "math"

// rule converts the state to a Rule. What a Rule cannot express is Unsupported
// where it concerns the CFA or the return address; a frame pointer or rbx is
// then Lost, and the walk goes on for as long as nobody needs it.
func (p *program) rule() Rule {
	s := &p.state
	switch {
	case p.cie.signal && p.isSignalFrame():
		return Rule{Kind: Signal}
	case s.ra.how == howUndefined:
		return Rule{Kind: End}
	case s.sp.how != howUnset: // that it is the CFA goes without saying
		return Rule{Kind: Unsupported}
	}
	r, ok := p.cfaOf(s.cfa)
	if !ok || !p.setReturn(&r) {
		return Rule{Kind: Unsupported}
	}
	r.FP, r.FPOffset = savedAt[int16](s.fp)
	r.BX, r.BXOffset = savedAt[int8](s.bx)
	if p.frameIsGone(r) {
		r.FP, r.FPOffset, r.BX, r.BXOffset = Same, 0, Same, 0
	}
	return r
}

// frameIsGone tells that only the return address is left on the stack, but what
// was saved in a realigned frame is still said to be there: GCC forgets to say
// that the epilogue has restored it.
func (p *program) frameIsGone(r Rule) bool {
	return !p.link && r.Kind == Offset && r.Base == SP && r.CFA == 8 && r.RAOffset == -1 && (r.FP == AtFP || r.BX == AtFP)
}

// isSignalFrame tells whether a CIE that says so (augmentation S) and the state
// describe the kernel's signal frame. The arm64 kernel's own description is a
// placeholder (arch/arm64/kernel/vdso/sigreturn.S); the one for amd64 is whole.
func (p *program) isSignalFrame() bool {
	if p.link {
		return true
	}
	s := &p.state
	return s.cfa == cfaRule{kind: Deref, register: p.arch.sp, offset: int64(p.arch.signal[p.arch.sp])} &&
		s.ra == found{how: howExpression, base: SP, offset: int64(p.signalIP)}
}

// cfaOf starts a Rule with its CFA.
func (p *program) cfaOf(cfa cfaRule) (Rule, bool) {
	base, ok := p.base(cfa.register)
	r := Rule{Kind: cfa.kind, Base: base, CFA: int32(cfa.offset), Add: int16(cfa.add)}
	ok = ok && int64(r.CFA) == cfa.offset && int64(r.Add) == cfa.add
	return r, ok && cfa.kind != None && cfa.kind != Unsupported
}

// setReturn sets the place of the return address.
func (p *program) setReturn(r *Rule) bool {
	ra := p.state.ra
	switch {
	case ra.how == howCFA && ra.offset%8 == 0 && fits[int16](ra.offset/8):
		r.RA, r.RAOffset = AtCFA, int16(ra.offset/8)
	case p.link && (ra.how == howSame || ra.how == howUnset):
		r.RA = Same
	case ra.how == howRegister && uint64(ra.offset) < 32:
		r.RA = InRegister + Place(ra.offset)
	default:
		return false
	}
	if p.state.signed {
		r.RA |= Signed
	}
	return true
}

// savedAt converts where a register that callees preserve was found.
func savedAt[T int8 | int16](f found) (Place, T) {
	place := Lost
	switch {
	case f.how == howUnset || f.how == howSame:
		return Same, 0
	case f.how == howCFA:
		place = AtCFA
	case f.how == howExpression && f.base == FP:
		place = AtFP
	}
	if place == Lost || f.offset%8 != 0 || !fits[T](f.offset/8) {
		return Lost, 0
	}
	return place, T(f.offset / 8)
}

func fits[T int8 | int16](v int64) bool {
	return v >= math.MinInt16 && v <= math.MaxInt16 && int64(T(v)) == v
}
