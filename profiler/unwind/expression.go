// SPDX-License-Identifier: Apache-2.0

package unwind

// DWARF expressions are not evaluated but recognized: compilers, linkers and
// hand-written assembly use very few, and a Rule must say the same in one step.

// Operations, DWARF 5 section 7.7.1.
const (
	opDeref      = 0x06
	opPlusUConst = 0x23
	opBreg0      = 0x70
	opBreg31     = 0x8f

	opLit0 = 0x30
)

// cfaExpression recognizes
//
//	breg n                     the register plus n
//	breg n, deref              a CFA kept in memory: frames that realign the stack
//	breg n, deref, plus_uconst m
//
// and the expression of linkage tables, see pltExpression.
func (a *arch) cfaExpression(expression []byte) cfaRule {
	if rule, ok := a.pltExpression(expression); ok {
		return rule
	}
	c := cursor{b: expression}
	register, offset, ok := breg(&c)
	rule := cfaRule{kind: Offset, register: register, offset: offset}
	if ok && c.left() > 0 {
		ok = c.byte() == opDeref
		rule.kind = Deref
	}
	if ok && c.left() > 0 {
		ok = c.byte() == opPlusUConst
		rule.add = int64(c.uleb())
	}
	if !ok || c.bad || c.left() > 0 {
		return cfaRule{kind: Unsupported}
	}
	return rule
}

// pltExpression recognizes what linkers write for .plt, where each entry of 16
// bytes pushes 8 bytes at its add-th byte (binutils, bfd/elfxx-x86.c):
// rsp + 8 + ((rip & 15) >= add) << 3.
func (a *arch) pltExpression(expression []byte) (cfaRule, bool) {
	pattern := [...]byte{
		opBreg0 + 7, 8, opBreg0 + 16, 0, // rsp+8, rip+0
		opLit0 + 15, 0x1a, opLit0, 0x2a, // and 15, ge the number at index 6
		opLit0 + 3, 0x24, 0x22, // shl 3, plus
	}
	if a.link || len(expression) != len(pattern) {
		return cfaRule{}, false
	}
	add := int64(expression[6]) - opLit0
	for i, b := range pattern {
		if i != 6 && expression[i] != b {
			return cfaRule{}, false
		}
	}
	return cfaRule{kind: PLT, register: a.sp, offset: 8, add: add}, add >= 0 && add < 16
}

// placeExpression recognizes "breg n": the caller's value is saved at an offset
// from a register.
func (a *arch) placeExpression(expression []byte) found {
	c := cursor{b: expression}
	register, offset, ok := breg(&c)
	base, known := a.base(register)
	if !ok || !known || c.left() > 0 {
		return found{how: howOdd}
	}
	return found{how: howExpression, base: base, offset: offset}
}

// breg reads an operation that adds a number to a register.
func breg(c *cursor) (register uint64, offset int64, ok bool) {
	op := c.byte()
	offset = c.sleb()
	return uint64(op) - opBreg0, offset, !c.bad && op >= opBreg0 && op <= opBreg31
}
