// SPDX-License-Identifier: Apache-2.0

package unwind

import "encoding/binary"

// Numbers of registers of arm64. 31 is SP or, where an instruction has no use for SP,
// the zero register.
const (
	armSystemCall = 8
	armFP         = 29
	armRA         = 30
	armSP         = 31
)

// arm64 is an instruction under way. Encodings are those of the Arm Architecture
// Reference Manual (DDI 0487), C4.1: what registers an instruction writes to shows in few
// bits of it, so that no list of instructions is needed.
type arm64 struct {
	instruction
	word uint32
	addr uint64
}

// decodeARM64 decodes the instruction of arm64 at an address. It reports false for bytes
// that are none, and for what C code does not use.
func decodeARM64(code []byte, addr uint64) (in instruction, ok bool) {
	if len(code) < 4 {
		return instruction{}, false
	}
	d := arm64{word: binary.LittleEndian.Uint32(code), addr: addr}
	d.size = 4
	switch d.word >> 25 & 15 {
	case 0b1000, 0b1001:
		ok = d.immediate()
	case 0b1010, 0b1011:
		ok = d.branch()
	case 0b0100, 0b0110, 0b1100, 0b1110:
		ok = d.memory()
	case 0b0101, 0b1101:
		ok = d.registers()
	case 0b0010:
		d.scalable()
		ok = true
	case 0b0111, 0b1111:
		d.vector()
		ok = true
	default:
		d.flow, ok = flowStop, d.word>>16 == 0 // UDF
	}
	return d.instruction, ok
}

// bits returns n bits of the instruction.
func (d *arm64) bits(from, n uint) uint32 { return d.word >> from & (1<<n - 1) }

// signed is bits as a signed number.
func (d *arm64) signed(from, n uint) int64 { return int64(int32(d.bits(from, n)<<(32-n))) >> (32 - n) }

// is compares the bits in mask.
func (d *arm64) is(mask, value uint32) bool { return d.word&mask == value }

// Registers that instructions name: the destination or what is moved, two operands, and
// the other one of a pair.
func (d *arm64) rd() uint32  { return d.bits(0, 5) }
func (d *arm64) rn() uint32  { return d.bits(5, 5) }
func (d *arm64) rm() uint32  { return d.bits(16, 5) }
func (d *arm64) rt2() uint32 { return d.bits(10, 5) }

// write takes note that a general register is written to; 31 is none.
func (d *arm64) write(register uint32) {
	switch register {
	case armFP:
		d.writes[keptFP] = true
	case armRA:
		d.writes[keptRA] = true
	case armSP:
		return
	}
	d.wrote |= 1 << register
}

// set takes note that a register is set to a value that is not followed; 31 is SP.
func (d *arm64) set(register uint32) {
	if register == armSP {
		d.effect, d.base = effectSetSP, Other
	} else {
		d.write(register)
	}
}

// immediate takes data processing with a constant apart (C4.1.93).
func (d *arm64) immediate() bool {
	switch d.bits(23, 3) {
	case 0b000, 0b001:
		d.write(d.rd())
		d.address()
	case 0b010:
		d.addConstant()
	case 0b011:
		d.set(d.rd()) // ADDG, SUBG
	case 0b100:
		if d.bits(29, 2) == 0b11 { // ANDS
			d.write(d.rd())
		} else {
			d.set(d.rd())
		}
	case 0b101:
		d.write(d.rd())
		d.constant()
	default:
		d.write(d.rd())
	}
	return true
}

// address takes ADR and ADRP apart.
func (d *arm64) address() {
	n := d.signed(5, 19)<<2 | int64(d.bits(29, 2))
	d.holds = uint8(d.rd()) + 1
	if d.page = d.bits(31, 1) == 1; d.page {
		d.mention = d.addr&^(1<<12-1) + uint64(n<<12)
	} else {
		d.mention = d.addr + uint64(n)
	}
}

// addConstant takes ADD and SUB of a constant apart; MOV to or from SP is ADD of 0.
func (d *arm64) addConstant() {
	n := int64(d.bits(10, 12)) << (12 * d.bits(22, 1))
	if d.bits(30, 1) == 1 {
		n = -n
	}
	wide, flags := d.bits(31, 1) == 1, d.bits(29, 1) == 1
	base := countedARM64(d.rn())
	switch to := d.rd(); {
	case flags:
		d.write(to)
		if to == armSP && n <= 0 && -n < maxTargets { // CMP
			d.limit = uint32(-n) + 1
		}
	case !wide:
		d.set(to)
	case to == armSP && base == SP:
		d.effect, d.n = effectMoveSP, int32(n)
	case to == armSP:
		d.effect, d.base, d.n = effectSetSP, base, int32(n)
	case to == armFP:
		d.effect, d.base, d.n, d.wrote = effectSetFP, base, int32(n), 1<<armFP
	default:
		d.write(to)
		d.holds, d.from, d.n = uint8(to)+1, uint8(d.rn())+1, int32(n)
	}
}

// constant takes MOVN, MOVZ and MOVK apart.
func (d *arm64) constant() {
	value, shift, wide := d.bits(5, 16), 16*d.bits(21, 2), d.bits(31, 1) == 1
	switch d.bits(29, 2) {
	case 0b10:
		switch {
		case d.rd() == armFP && wide && value == 0:
			d.effect, d.writes[keptFP] = effectOutermost, false
		case d.rd() == armSystemCall && shift == 0 && (value == sysClone || value == sysClone3):
			d.effect = effectThread
		case shift == 0 && value != 0 && value%stackAlign == 0:
			d.effect, d.counter, d.n = effectConstant, uint8(d.rd())+1, int32(value)
		}
	case 0b11:
		if n := uint64(value) << shift; n < maxFrame && shift == 16 {
			d.effect, d.counter, d.n = effectConstantHigh, uint8(d.rd())+1, int32(n)
		}
	}
}

// System calls that begin threads (include/uapi/asm-generic/unistd.h).
const sysClone, sysClone3 = 220, 435

// stackAlign is what SP is a multiple of, in bytes: AAPCS64, 6.4.5.1.
const stackAlign = 16

// registers takes data processing with registers only apart (C4.1.95).
func (d *arm64) registers() bool {
	switch {
	case d.is(0x1fe00000, 0x0b200000): // ADD, SUB (extended register)
		d.addRegister()
	case d.is(0xffe0fc00, 0x9ac01000): // IRG
		d.set(d.rd())
	case d.is(0xffe0ffff, 0xaa0003fd) && d.rm() == armSP: // MOV x29, xzr
		d.effect, d.wrote = effectOutermost, 1<<armFP
	case d.is(0xffe0ffe0, 0xaa0003e0): // MOV
		d.write(d.rd())
		d.holds, d.from = uint8(d.rd())+1, uint8(d.rm())+1
	case d.is(0xffe00000, 0x8b000000): // ADD (shifted register, LSL)
		d.write(d.rd())
		d.offsets(d.bits(10, 6), false)
	default:
		d.write(d.rd())
	}
	return true
}

// addRegister takes ADD and SUB of an extended register apart.
func (d *arm64) addRegister() {
	to, minus, flags := d.rd(), d.bits(30, 1) == 1, d.bits(29, 1) == 1
	if flags {
		d.write(to)
		return
	}
	d.set(to)
	whole := d.bits(31, 1) == 1 && d.bits(10, 6) == 0b011000 // UXTX, not shifted
	switch {
	case to == armSP && d.rn() == armSP && whole:
		d.effect, d.counter, d.n = effectMoveSPBy, uint8(d.rm())+1, 1
		if minus {
			d.n = -1
		}
	case to != armSP && !minus:
		d.offsets(d.bits(10, 3), d.bits(15, 1) == 1)
	}
}

// offsets takes note of the sum of an address and what was read from a table of jumps.
func (d *arm64) offsets(shift uint32, signed bool) {
	d.sum = sum{to: uint8(d.rd()) + 1, origin: uint8(d.rn()) + 1, offset: uint8(d.rm()) + 1, shift: uint8(shift), signed: signed}
}

// vector takes note of the few instructions on vectors that write to general registers
// (C4.1.96).
func (d *arm64) vector() {
	opcode := d.bits(16, 3)
	switch {
	case d.is(0x5f20fc00, 0x1e200000): // FCVT…, FMOV, SCVTF, UCVTF
		if opcode != 0b010 && opcode != 0b011 && opcode != 0b111 {
			d.write(d.rd())
		}
	case d.is(0x5f200000, 0x1e000000): // FCVTZS, FCVTZU, SCVTF, UCVTF of fixed point
		if opcode < 0b010 {
			d.write(d.rd())
		}
	case d.is(0xbfe0ac00, 0x0e002c00): // SMOV, UMOV
		d.write(d.rd())
	}
}

// scalable is for scalable vectors (C4.1.2): if they write to a general register, its
// number is that of the destination. ADDVL and ADDPL write to SP, too.
func (d *arm64) scalable() {
	if d.is(0xffa0f000, 0x04205000) {
		d.set(d.rd())
	} else {
		d.write(d.rd())
	}
}

// branch takes branches, exceptions and system instructions apart (C4.1.94).
func (d *arm64) branch() bool {
	switch {
	case d.is(0xfc000000, 0x14000000): // B
		d.flow = flowJump
		d.to(0, 26)
	case d.is(0xfc000000, 0x94000000): // BL
		d.flow, d.writes[keptRA] = flowCall, true
		d.to(0, 26)
	case d.is(0x7e000000, 0x34000000), d.is(0xff000000, 0x54000000): // CBZ, CBNZ, B.cond
		d.flow = flowBranch
		d.above, d.below = d.is(0xff00001f, 0x54000008), d.is(0xff00001f, 0x54000009) // HI, LS
		d.to(5, 19)
	case d.is(0x7e000000, 0x36000000): // TBZ, TBNZ
		d.flow = flowBranch
		d.to(5, 14)
	case d.is(0xff000000, 0xd4000000):
		if d.is(0xffe0001f, 0xd4000001) { // SVC
			d.effect, d.wrote = effectSystem, 1
		} else {
			d.flow = flowStop
		}
	case d.is(0xffc00000, 0xd5000000):
		d.system()
	case d.is(0xfe1f0000, 0xd61f0000):
		return d.branchRegister()
	default:
		return false
	}
	return true
}

func (d *arm64) to(from, n uint) { d.target = d.addr + uint64(d.signed(from, n)<<2) }

// system takes hints apart, and what reads system registers.
func (d *arm64) system() {
	switch {
	case d.is(0xffffff9f, 0xd503231f): // PACIAZ, PACIASP, PACIBZ, PACIBSP
		d.effect = effectSign
	case d.is(0xffffff9f, 0xd503239f): // AUTIAZ, AUTIASP, AUTIBZ, AUTIBSP
		d.effect = effectAuthenticate
	case d.word == 0xd50320ff: // XPACLRI
		d.write(armRA)
	case d.is(0xfffff01f, 0xd503201f): // other hints; some sign x16 or x17
		d.wrote = 1<<16 | 1<<17
	case d.is(0xffe00000, 0xd5200000): // MRS, SYSL
		d.write(d.rd())
	}
}

// branchRegister takes BR, BLR and RET apart, and their forms that authenticate.
func (d *arm64) branchRegister() bool {
	plain := d.is(0x0000fc1f, 0)
	key := d.is(0x0000f800, 0x00000800)
	switch d.bits(21, 4) {
	case 0b0000, 0b1000:
		d.flow, d.through = flowIndirect, uint8(d.rn())+1
	case 0b0001, 0b1001:
		d.flow, d.writes[keptRA] = flowCall, true
	case 0b0010:
		if d.flow = flowReturn; key {
			d.effect = effectAuthenticate
		} else if d.rn() != armRA {
			d.flow = flowIndirect
		}
	default:
		return false
	}
	return plain || key
}

// countedARM64 is the base for a register.
func countedARM64(register uint32) Base {
	switch register {
	case armSP:
		return SP
	case armFP:
		return FP
	}
	return Other
}

// followedARM64 is the number of a register that is followed.
func followedARM64(register uint32) int8 {
	switch register {
	case armFP:
		return keptFP
	case armRA:
		return keptRA
	}
	return otherRegister
}
