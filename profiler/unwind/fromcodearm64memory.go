// SPDX-License-Identifier: Apache-2.0

package unwind

// memory takes loads and stores apart (C4.1.97).
func (d *arm64) memory() bool {
	switch {
	case d.is(0xbf000000, 0x0c000000), d.is(0xbf000000, 0x0d000000): // LD1 to LD4, ST1 to ST4
		if d.bits(23, 1) == 1 {
			d.set(d.rn())
		}
	case d.is(0x3f000000, 0x08000000): // LDXR, STXR, LDAR, STLR, CAS and the like
		for _, r := range []uint32{d.rd(), d.rt2(), d.rm(), d.rm() | 1} {
			d.write(r)
		}
	case d.is(0x3f200c00, 0x19000000): // LDAPUR, STLUR
		d.write(d.rd())
	case d.is(0x3b000000, 0x18000000): // LDR (literal)
		if d.bits(26, 1) == 0 {
			d.write(d.rd())
		}
	case d.is(0x3a000000, 0x28000000):
		return d.pair()
	case d.is(0x3a000000, 0x38000000):
		return d.single()
	default:
		return false
	}
	return true
}

// access is a load or store of one or two registers at base + n.
type access struct {
	load, vector bool
	// width is of one register, in bytes.
	width, n  int32
	registers []uint32
	// move is what is added to the base afterwards, or before, which n then includes.
	move int32
}

// pair takes LDP and STP apart.
func (d *arm64) pair() bool {
	opcode := d.bits(30, 2)
	a := access{load: d.bits(22, 1) == 1, vector: d.bits(26, 1) == 1, registers: []uint32{d.rd(), d.rt2()}}
	switch {
	case opcode == 0b11, opcode == 0b01 && !a.vector && !a.load: // none, STGP
		return false
	case a.vector:
		a.width = 4 << opcode
	case opcode == 0b10:
		a.width = 8
	default:
		a.width = 4
	}
	a.n = int32(d.signed(15, 7)) * a.width
	switch d.bits(23, 2) {
	case 0b01:
		a.n, a.move = 0, a.n
	case 0b11:
		a.move = a.n
	}
	d.access(a)
	return true
}

// single takes LDR, STR and their kin apart.
func (d *arm64) single() bool {
	size, opcode := d.bits(30, 2), d.bits(22, 2)
	a := access{vector: d.bits(26, 1) == 1, load: opcode != 0, width: 1 << size, registers: []uint32{d.rd()}}
	switch {
	case a.vector && opcode&0b10 != 0:
		a.width, a.load = 16, opcode == 0b11
	case size == 0b11 && opcode == 0b10: // PRFM
		return true
	}
	switch {
	case d.bits(24, 1) == 1:
		a.n = int32(d.bits(10, 12)) * a.width
	case d.bits(21, 1) == 0:
		a.n = int32(d.signed(12, 9))
		switch d.bits(10, 2) {
		case 0b01:
			a.n, a.move = 0, a.n
		case 0b11:
			a.move = a.n
		}
	case d.bits(10, 2) == 0b10:
		d.indexed(a, opcode != 0b01)
		return true
	default:
		return d.atomic(a)
	}
	d.access(a)
	return true
}

// indexed is for addresses that are the sum of two registers.
func (d *arm64) indexed(a access, signed bool) {
	if a.load && !a.vector {
		d.write(d.rd())
		d.entry = tableEntry{to: uint8(d.rd()) + 1, table: uint8(d.rn()) + 1, width: uint8(a.width), signed: signed}
	}
}

// atomic takes LDADD, SWP, LDAPR and the like apart.
func (d *arm64) atomic(a access) bool {
	opcode := d.bits(12, 4)
	d.write(d.rd())
	return d.bits(10, 2) == 0 && !a.vector && (opcode <= 0b1000 || opcode == 0b1100)
}

// access takes note of what is moved to and from the stack. Registers that are followed
// are so as a whole only.
func (d *arm64) access(a access) {
	base := countedARM64(d.rn())
	d.base, d.n, d.width = base, a.n, a.width
	whole := a.width == 8 && !a.vector
	d.register, d.second = otherRegister, otherRegister
	if whole {
		d.register = followedARM64(a.registers[0])
		if len(a.registers) == 2 {
			d.second = followedARM64(a.registers[1])
		}
	}
	switch {
	case a.load && !a.vector:
		d.loads(a, base != Other && whole)
	case !a.load && base != Other:
		d.effect, d.stored = effectStore, a.width*int32(len(a.registers))
	}
	switch {
	case a.move == 0:
	case base == SP:
		d.move = a.move
	default:
		d.write(d.rn())
	}
}

// loads takes note of the registers that are loaded: from the stack, where they may have
// been saved, or from elsewhere.
func (d *arm64) loads(a access, stack bool) {
	for _, r := range a.registers {
		if followed := followedARM64(r); stack && followed != otherRegister {
			d.effect = effectLoad
			d.wrote |= 1 << r
		} else {
			d.write(r)
		}
	}
}
