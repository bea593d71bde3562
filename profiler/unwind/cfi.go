// SPDX-License-Identifier: Apache-2.0

package unwind

import "math"

// maxRemembered bounds the stack of remembered states; compilers write one.
const maxRemembered = 32

// Call frame instructions, DWARF 5 section 7.24 and what GNU and Arm added.
const (
	cfaAdvanceLoc = 0x40 // high two bits; the low six are an operand
	cfaOffset     = 0x80
	cfaRestore    = 0xc0

	cfaNop                       = 0x00
	cfaSetLoc                    = 0x01
	cfaAdvanceLoc1               = 0x02
	cfaAdvanceLoc2               = 0x03
	cfaAdvanceLoc4               = 0x04
	cfaOffsetExtended            = 0x05
	cfaRestoreExtended           = 0x06
	cfaUndefined                 = 0x07
	cfaSameValue                 = 0x08
	cfaRegister                  = 0x09
	cfaRememberState             = 0x0a
	cfaRestoreState              = 0x0b
	cfaDefCFA                    = 0x0c
	cfaDefCFARegister            = 0x0d
	cfaDefCFAOffset              = 0x0e
	cfaDefCFAExpression          = 0x0f
	cfaExpression                = 0x10
	cfaOffsetExtendedSF          = 0x11
	cfaDefCFASF                  = 0x12
	cfaDefCFAOffsetSF            = 0x13
	cfaValOffset                 = 0x14
	cfaValOffsetSF               = 0x15
	cfaValExpression             = 0x16
	cfaAdvanceLoc8               = 0x1d // MIPS
	cfaNegateRAStateWithPC       = 0x2c // AARCH64
	cfaNegateRAState             = 0x2d // AARCH64; GNU_window_save elsewhere
	cfaGNUArgsSize               = 0x2e
	cfaGNUNegativeOffsetExtended = 0x2f
)

// how says how a register's value in the caller is found.
type how uint8

const (
	howUnset how = iota
	howUndefined
	howSame
	howCFA        // at CFA + offset
	howExpression // at base + offset
	howRegister   // in the register whose number is offset
	howOdd        // in a way no Rule expresses
)

// found is where a register's value in the caller is found.
type found struct {
	how    how
	base   Base
	offset int64
}

// cfaRule is how the CFA is found. Kind is Offset, Deref, PLT, or Unsupported
// for an expression that no Rule expresses; None as long as it is not defined.
type cfaRule struct {
	kind     Kind
	register uint64
	offset   int64
	add      int64
}

// state is the row that a program has built up. It follows the registers that
// walks need.
type state struct {
	cfa            cfaRule
	fp, bx, ra, sp found
	signed         bool
}

// program interprets the call frame instructions of one function.
type program struct {
	*arch
	cie   *cie
	state state
	// remembered is a stack.
	remembered []state
	// loc is the address that the state holds from.
	loc uint64
	// field is the address of the instructions, for DW_CFA_set_loc.
	field uint64
	// emit takes a row; addresses never decrease.
	emit func(addr uint64, r Rule) error
}

// run interprets instructions. Those that it does not know end the program with
// a row of kind Unsupported.
func (p *program) run(c *cursor) error {
	for c.left() > 0 {
		op := c.byte()
		delta, moves := p.advance(op, c)
		switch {
		case !moves && !p.step(op, c) || c.bad:
			return p.emit(p.loc, Rule{Kind: Unsupported})
		case !moves || delta == 0:
			continue
		}
		if err := p.emit(p.loc, p.rule()); err != nil {
			return err
		}
		if p.loc+delta < p.loc {
			return nil // beyond all code
		}
		p.loc += delta
	}
	return p.emit(p.loc, p.rule())
}

// advance reads the operand of an instruction that moves loc, in bytes.
func (p *program) advance(op byte, c *cursor) (delta uint64, moves bool) {
	switch op {
	case cfaAdvanceLoc1:
		delta = c.fixed(1)
	case cfaAdvanceLoc2:
		delta = c.fixed(2)
	case cfaAdvanceLoc4:
		delta = c.fixed(4)
	case cfaAdvanceLoc8:
		delta = c.fixed(8)
	case cfaSetLoc:
		to := c.pointer(p.cie.pointers, p.field, 0)
		c.bad = c.bad || to < p.loc
		return to - p.loc, true
	default:
		if op&0xc0 != cfaAdvanceLoc {
			return 0, false
		}
		delta = uint64(op & 0x3f)
	}
	if delta > math.MaxInt64/p.cie.codeAlign {
		return math.MaxUint64, true
	}
	return delta * p.cie.codeAlign, true
}

// step interprets an instruction that changes the state. It reports false for
// one that it does not know or that cannot be right.
func (p *program) step(op byte, c *cursor) bool {
	switch op & 0xc0 {
	case cfaOffset:
		p.set(uint64(op&0x3f), found{how: howCFA, offset: int64(c.uleb()) * p.cie.dataAlign})
		return true
	case cfaRestore:
		p.restore(uint64(op & 0x3f))
		return true
	}
	switch op {
	case cfaNop:
	case cfaRememberState:
		if len(p.remembered) == maxRemembered {
			return false
		}
		p.remembered = append(p.remembered, p.state)
	case cfaRestoreState:
		n := len(p.remembered)
		if n == 0 {
			return false
		}
		p.state, p.remembered = p.remembered[n-1], p.remembered[:n-1]
	case cfaNegateRAState, cfaNegateRAStateWithPC:
		p.state.signed = !p.state.signed
		return p.link // on other machines these numbers mean something else
	case cfaGNUArgsSize:
		c.uleb()
	case cfaDefCFA, cfaDefCFASF, cfaDefCFARegister, cfaDefCFAOffset, cfaDefCFAOffsetSF, cfaDefCFAExpression:
		return p.defineCFA(op, c)
	default:
		return p.setRegister(op, c)
	}
	return true
}

func (p *program) defineCFA(op byte, c *cursor) bool {
	cfa := &p.state.cfa
	switch op {
	case cfaDefCFA:
		*cfa = cfaRule{kind: Offset, register: c.uleb(), offset: int64(c.uleb())}
	case cfaDefCFASF:
		*cfa = cfaRule{kind: Offset, register: c.uleb(), offset: c.sleb() * p.cie.dataAlign}
	case cfaDefCFAExpression:
		*cfa = p.cfaExpression(c.take(c.uleb()))
	case cfaDefCFARegister:
		cfa.register = c.uleb()
		return cfa.kind == Offset // an expression has no register to change
	case cfaDefCFAOffset:
		cfa.offset = int64(c.uleb())
		return cfa.kind == Offset
	case cfaDefCFAOffsetSF:
		cfa.offset = c.sleb() * p.cie.dataAlign
		return cfa.kind == Offset
	}
	return true
}

func (p *program) setRegister(op byte, c *cursor) bool {
	register := c.uleb()
	switch op {
	case cfaOffsetExtended:
		p.set(register, found{how: howCFA, offset: int64(c.uleb()) * p.cie.dataAlign})
	case cfaOffsetExtendedSF:
		p.set(register, found{how: howCFA, offset: c.sleb() * p.cie.dataAlign})
	case cfaGNUNegativeOffsetExtended:
		p.set(register, found{how: howCFA, offset: -int64(c.uleb()) * p.cie.dataAlign})
	case cfaRestoreExtended:
		p.restore(register)
	case cfaUndefined:
		p.set(register, found{how: howUndefined})
	case cfaSameValue:
		p.set(register, found{how: howSame})
	case cfaExpression:
		p.set(register, p.placeExpression(c.take(c.uleb())))
	case cfaRegister:
		p.set(register, found{how: howRegister, offset: int64(c.uleb())})
	case cfaValOffset, cfaValOffsetSF:
		c.uleb() // signed or not, it has the same length
		p.set(register, found{how: howOdd})
	case cfaValExpression:
		c.take(c.uleb())
		p.set(register, found{how: howOdd})
	default:
		return false
	}
	return true
}

func (p *program) set(register uint64, to found) {
	if at := p.state.register(p.arch, p.cie.ra, register); at != nil {
		*at = to
	}
}

// restore gives a register the rule that the CIE's instructions left it with.
func (p *program) restore(register uint64) {
	if from := p.cie.initial.register(p.arch, p.cie.ra, register); from != nil {
		p.set(register, *from)
	}
}

// register returns the place of a register in the state, nil if it is not
// followed. ra is the number of the return address column.
func (s *state) register(a *arch, ra, register uint64) *found {
	switch register {
	case ra:
		return &s.ra
	case a.fp:
		return &s.fp
	case a.sp:
		return &s.sp
	case a.bx:
		return &s.bx
	}
	return nil
}
