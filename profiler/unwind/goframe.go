// SPDX-License-Identifier: Apache-2.0

package unwind

import "math"

// goFrame makes rules from the stack depths of one function.
type goFrame struct {
	*arch
	special special
	// deepest is the greatest depth, for special functions.
	deepest int64
	// saves is known of functions that callsC and savesForC only.
	saves goSaves
}

// see takes note of the depth from pc on.
func (f *goFrame) see(pc uint64, depth int64) {
	f.deepest = max(f.deepest, depth)
	if pc < f.saves.from {
		f.saves.depth = depth
	}
}

// setsUp says that ruleSetUp is for the function, once it has done something.
func (f *goFrame) setsUp() bool {
	switch f.special {
	case writesSP, switchesStack, callsC, savesForC:
		return true
	}
	return false
}

// setUpAt is where ruleSetUp begins to hold in a function that enters its frame at pc.
func (f *goFrame) setUpAt(pc uint64) uint64 {
	if f.special == savesForC {
		return max(pc, f.saves.from)
	}
	return pc + f.setsFP
}

// rule counts from SP. On amd64 the return address is above the frame and the
// saved frame pointer on its top. On arm64 the return address is at the bottom of
// the frame, where SP points, and the frame pointer is saved below that.
func (f *goFrame) rule(depth int64) Rule {
	switch {
	case depth < 0 || depth%8 != 0 || depth > math.MaxInt32-16 || f.link && depth/8 >= math.MaxInt16-2:
		return Rule{Kind: Unsupported}
	case f.special == leavesStack && depth == f.deepest:
		return Rule{Kind: End}
	case f.setsUp() && f.deepest == 0:
		return f.ruleFrameless()
	}
	r := Rule{Kind: Offset, CFA: int32(depth)}
	if !f.link {
		r.CFA, r.RA, r.RAOffset = r.CFA+8, AtCFA, -1
	} else if depth > 0 {
		r.RA, r.RAOffset = AtCFA, int16(-depth/8)
	}
	if depth > 0 {
		r.FP, r.FPOffset = AtCFA, r.RAOffset-1
	}
	switch {
	case depth == 0:
	case f.special == savesForC: // not yet
		r.FP, r.FPOffset = Same, 0
		if f.link {
			r.RA, r.RAOffset = Same, 0
		}
	case f.special == calledByC && depth == f.deepest:
		r.Kind = Callback
	case f.special == injected && f.link:
		r.CFA, r.RAOffset, r.FPOffset = r.CFA+16, r.RAOffset-2, r.FPOffset-2
	}
	return r
}

// ruleFrameless is for functions that change SP without a frame of their own: the
// frame pointer is what leads on.
func (f *goFrame) ruleFrameless() Rule {
	switch {
	case f.link || f.special == writesSP || f.special == savesForC:
		return Rule{}
	case f.special == callsC && f.saves.known:
		return Rule{Kind: CallC, Add: int16(f.saves.goroutine), CFA: 8, RA: AtCFA, RAOffset: -1}
	}
	return Rule{Kind: Switch, Base: FP, CFA: 16, RA: AtCFA, RAOffset: -1, FP: AtCFA, FPOffset: -2}
}

// ruleSetUp is rule for code that has set up its frame. What sets the frame pointer
// to where it saved the caller's may have changed SP since.
func (f *goFrame) ruleSetUp(depth int64) Rule {
	r := f.rule(depth)
	switch {
	case r.Kind != Offset:
	case f.special == savesForC:
		return f.ruleSaved(r)
	case f.special == callsC && f.saves.known:
		r.Kind, r.Add = CallC, int16(f.saves.goroutine)
	default:
		r.Kind, r.Base, r.CFA = Switch, FP, -8*int32(r.FPOffset)
	}
	return r
}

// ruleSaved is r for a function that has saved what its caller, C, needs.
func (f *goFrame) ruleSaved(r Rule) Rule {
	// Offsets were from SP, which has moved since.
	cfa := f.saves.depth
	if !f.link {
		cfa += 8
	}
	switch {
	case f.saves.known && f.link:
		r.FP, r.FPOffset = AtCFA, int16((f.saves.fp-cfa)/8)
		r.RA, r.RAOffset = AtCFA, int16((f.saves.ra-cfa)/8)
	case f.saves.known:
		r.FP, r.FPOffset = AtCFA, int16((f.saves.fp-cfa)/8)
	case f.link:
		return Rule{Kind: Unsupported}
	default:
		r.FP = Lost
	}
	return r
}
