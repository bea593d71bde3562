// SPDX-License-Identifier: Apache-2.0

package unwind

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

	// The rest is for arm64. effectSign puts an authentication code into the return
	// address, effectAuthenticate takes it out.
	effectSign
	effectAuthenticate
	// effectThread names the system call that begins threads.
	effectThread
	// effectConstant sets a register to a constant, effectConstantHigh the part of it
	// above the low 16 bits, and effectMoveSPBy adds n times the register to SP.
	effectConstant
	effectConstantHigh
	effectMoveSPBy
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
	// above says that the branch is taken by what is larger, unsigned, below that it is
	// by what is not.
	above, below bool
	// table is the address of a table of addresses that an indirect jump goes by.
	table uint64
	// fixed says that it goes by a place that is always the same: to another function.
	fixed bool
	armInstruction
}

// armInstruction is what only instructions of arm64 have. Registers are their numbers
// plus 1.
type armInstruction struct {
	// second is moved to or from width bytes behind register; stored is the bytes that
	// a store writes.
	second        int8
	width, stored int32
	// move is added to SP at last, in bytes.
	move int32
	// counter is the register of a constant.
	counter uint8
	// wrote has a bit for each general register that is overwritten.
	wrote uint32
	// page says that mention is the start of the page of an address. from is the register
	// that the one in holds is set to, plus n.
	page bool
	from uint8
	// through is the register that an indirect jump goes by; entry and sum are how it
	// was computed.
	through uint8
	entry   tableEntry
	sum     sum
}

// tableEntry is the read of an entry of a table of jumps: width bytes.
type tableEntry struct {
	to, table, width uint8
	signed           bool
}

// sum is an address that is an origin and an offset, shifted.
type sum struct {
	to, origin, offset, shift uint8
	signed                    bool
}
