// SPDX-License-Identifier: Apache-2.0

package unwind

import "golang.org/x/arch/x86/x86asm"

// decodeX86 decodes the instruction of amd64 at an address. It reports false for
// bytes that are none, or one that C code does not use.
func decodeX86(code []byte, addr uint64) (in instruction, ok bool) {
	if len(code) >= 4 && code[0] == 0xf3 && code[1] == 0x0f && code[2] == 0x1e && code[3]&0xfe == 0xfa {
		return instruction{size: 4}, true // endbr64, endbr32: not in the decoder
	}
	i, err := x86asm.Decode(code, 64)
	if err != nil || i.Len == 0 || i.Op == 0 {
		return instruction{}, false
	}
	d := x86{Inst: &i, next: addr + uint64(i.Len)}
	d.size = uint8(i.Len)
	d.flow, ok = flowX86(i.Op)
	if !ok {
		return instruction{}, false
	}
	switch {
	case d.flow != flowNext:
		d.jump()
	default:
		d.move()
		d.constants()
	}
	return d.instruction, true
}

// x86 is an instruction under way.
type x86 struct {
	instruction
	*x86asm.Inst
	next uint64
}

func flowX86(op x86asm.Op) (f flow, ok bool) {
	switch op {
	case x86asm.CALL:
		return flowCall, true
	case x86asm.JMP:
		return flowJump, true
	case x86asm.JA, x86asm.JAE, x86asm.JB, x86asm.JBE, x86asm.JCXZ, x86asm.JE, x86asm.JECXZ, x86asm.JG, x86asm.JGE,
		x86asm.JL, x86asm.JLE, x86asm.JNE, x86asm.JNO, x86asm.JNP, x86asm.JNS, x86asm.JO, x86asm.JP, x86asm.JRCXZ, x86asm.JS,
		x86asm.LOOP, x86asm.LOOPE, x86asm.LOOPNE, x86asm.XBEGIN:
		return flowBranch, true
	case x86asm.RET:
		return flowReturn, true
	case x86asm.HLT, x86asm.UD0, x86asm.UD1, x86asm.UD2, x86asm.INT:
		return flowStop, true
	case x86asm.ENTER, x86asm.LCALL, x86asm.LJMP, x86asm.LRET, x86asm.IRET, x86asm.IRETD, x86asm.IRETQ, x86asm.SYSRET,
		x86asm.SYSEXIT, x86asm.IN, x86asm.OUT, x86asm.INSB, x86asm.INSD, x86asm.INSW, x86asm.OUTSB, x86asm.OUTSD, x86asm.OUTSW:
		return flowStop, false
	}
	return flowNext, true
}

// jump takes what changes the flow apart.
func (d *x86) jump() {
	switch arg := d.Args[0].(type) {
	case x86asm.Rel:
		d.target = d.next + uint64(int64(arg))
		d.above = d.Op == x86asm.JA || d.Op == x86asm.JAE
		if d.flow == flowCall && d.target == d.next { // pushes its own address
			d.flow, d.effect, d.register = flowNext, effectPush, otherRegister
		}
	case x86asm.Mem:
		if arg.Base == x86asm.RIP {
			d.mention = d.next + uint64(int32(arg.Disp))
		}
		if d.flow == flowJump {
			d.flow, d.fixed = flowIndirect, arg.Base == x86asm.RIP
			if arg.Base == 0 && arg.Segment == 0 && arg.Scale == 8 {
				d.table = uint64(arg.Disp)
			}
		}
	case x86asm.Reg:
		if d.flow == flowJump {
			d.flow = flowIndirect
		}
	case x86asm.Imm:
		if d.flow == flowReturn { // pops arguments, which nothing here does
			d.effect, d.n = effectMoveSP, int32(arg)
		}
	}
}

// move takes the rest apart.
func (d *x86) move() {
	to, toRegister := d.Args[0].(x86asm.Reg)
	switch d.Op {
	case x86asm.PUSH, x86asm.PUSHFQ:
		d.effect, d.register = effectPush, otherRegister
		if toRegister {
			d.register = followed(to)
		}
		if d.DataSize == 16 {
			d.effect, d.base = effectSetSP, Other
		}
	case x86asm.POP, x86asm.POPFQ:
		d.effect, d.register = effectPop, otherRegister
		if toRegister {
			d.register = followed(to)
		}
		if to == x86asm.RSP || d.DataSize == 16 {
			d.effect, d.base = effectSetSP, Other
		}
	case x86asm.LEAVE:
		d.effect = effectLeave
	case x86asm.CPUID:
		d.writes[keptBX] = true
	case x86asm.CMP, x86asm.TEST, x86asm.BT, x86asm.NOP, x86asm.PUSHF, x86asm.PREFETCHNTA, x86asm.PREFETCHT0,
		x86asm.PREFETCHT1, x86asm.PREFETCHT2, x86asm.PREFETCHW:
	case x86asm.MOV:
		d.copy()
	default:
		d.write()
	}
}

// copy takes MOV apart.
func (d *x86) copy() {
	switch to := d.Args[0].(type) {
	case x86asm.Reg:
		d.write()
		from, ok := d.Args[1].(x86asm.Mem)
		if r := followed(to); ok && r != otherRegister && plain(from) {
			d.writes = [kepts]bool{}
			d.effect, d.register, d.base, d.n = effectLoad, r, counted(from.Base), int32(from.Disp)
		}
	case x86asm.Mem:
		from, _ := d.Args[1].(x86asm.Reg)
		if plain(to) {
			d.effect, d.register, d.base, d.n = effectStore, followed(from), counted(to.Base), int32(to.Disp)
		}
	}
}

// write takes note of the registers that anything else writes to.
func (d *x86) write() {
	d.writeTo(d.Args[0])
	switch d.Op {
	case x86asm.XCHG, x86asm.XADD, x86asm.MULX:
		d.writeTo(d.Args[1])
	}
}

func (d *x86) writeTo(arg x86asm.Arg) {
	to, _ := arg.(x86asm.Reg)
	switch whole(to) {
	case x86asm.RSP:
		d.effect, d.base = effectSetSP, Other
		if n, ok := d.Args[1].(x86asm.Imm); ok && to == x86asm.RSP && int64(n) == int64(int32(n)) {
			switch d.Op {
			case x86asm.ADD:
				d.effect, d.n = effectMoveSP, int32(n)
			case x86asm.SUB:
				d.effect, d.n = effectMoveSP, -int32(n)
			}
		}
		d.from(effectSetSP)
	case x86asm.RBP:
		d.writes[keptFP] = true
		if d.Op == x86asm.XOR && d.Args[0] == d.Args[1] {
			d.writes[keptFP], d.effect = false, effectOutermost
		}
		d.from(effectSetFP)
	case x86asm.RBX:
		d.writes[keptBX] = true
	}
}

// from is for a register that is set to another one and an offset.
func (d *x86) from(set effect) {
	if d.Args[0] != x86asm.RSP && d.Args[0] != x86asm.RBP {
		return
	}
	var base x86asm.Reg
	switch from := d.Args[1].(type) {
	case x86asm.Reg:
		if d.Op == x86asm.MOV {
			base = from
		}
	case x86asm.Mem:
		if d.Op == x86asm.LEA && plain(from) {
			base, d.n = from.Base, int32(from.Disp)
		}
	}
	if base == x86asm.RSP || base == x86asm.RBP {
		d.writes[keptFP] = false
		d.effect, d.base = set, counted(base)
	}
}

// constants takes note of addresses and limits.
func (d *x86) constants() {
	switch d.Op {
	case x86asm.LEA:
		if m, ok := d.Args[1].(x86asm.Mem); ok && m.Base == x86asm.RIP {
			d.mention = d.next + uint64(int32(m.Disp))
			if to, ok := d.Args[0].(x86asm.Reg); ok && to >= x86asm.RAX && to <= x86asm.R15 {
				d.holds = uint8(to-x86asm.RAX) + 1
			}
		}
	case x86asm.MOV, x86asm.PUSH:
		for _, arg := range d.Args[:2] {
			if n, ok := arg.(x86asm.Imm); ok && n > 0 {
				d.mention = uint64(n)
			}
		}
	case x86asm.CMP:
		if n, ok := d.Args[1].(x86asm.Imm); ok && n >= 0 && n < maxTargets {
			d.limit = uint32(n) + 1
		}
	case x86asm.MOVSXD:
		if m, ok := d.Args[1].(x86asm.Mem); ok && m.Scale == 4 && m.Disp == 0 && m.Base >= x86asm.RAX && m.Base <= x86asm.R15 {
			d.indexes = uint8(m.Base-x86asm.RAX) + 1
		}
	case x86asm.SYSCALL:
		d.effect = effectSystem
	}
}

// plain tells whether an address is a register plus a constant.
func plain(m x86asm.Mem) bool { return m.Segment == 0 && m.Index == 0 }

// counted is the base for a register.
func counted(r x86asm.Reg) Base {
	switch r {
	case x86asm.RSP:
		return SP
	case x86asm.RBP:
		return FP
	}
	return Other
}

// followed is the number of a register that is followed.
func followed(r x86asm.Reg) int8 {
	switch r {
	case x86asm.RBP:
		return keptFP
	case x86asm.RBX:
		return keptBX
	}
	return otherRegister
}

// whole is the register that r is part of, of those that matter.
func whole(r x86asm.Reg) x86asm.Reg {
	switch r {
	case x86asm.SPB, x86asm.SP, x86asm.ESP, x86asm.RSP:
		return x86asm.RSP
	case x86asm.BPB, x86asm.BP, x86asm.EBP, x86asm.RBP:
		return x86asm.RBP
	case x86asm.BL, x86asm.BH, x86asm.BX, x86asm.EBX, x86asm.RBX:
		return x86asm.RBX
	}
	return 0
}
