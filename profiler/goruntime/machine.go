// SPDX-License-Identifier: Apache-2.0

package goruntime

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// machine is how Go lays out stacks and code on an architecture.
type machine struct {
	// entry is how far below the upper end of the stack SP is when a goroutine
	// enters its outermost function: four words are left free, with the word
	// for a link register it is rounded up to 16, and amd64 has pushed the return
	// address. Source: newproc1 in runtime/proc.go, the same in Go 1.20 to 1.26.
	entry int64
	// pushed is how many bytes a call pushes.
	pushed int64
	// arguments are the registers of the first integer arguments. Each has a
	// place of its own where it is spilled, the first one word above SP at the
	// entry of the callee. Source: the Go internal ABI, cmd/compile/abi-internal.md.
	arguments []uint8
	// step is the distance of places where an instruction may begin.
	step int
	// call decodes a direct call at the start of code at pc.
	call func(code []byte, pc uint64) (target uint64, ok bool)
	// store decodes the store of a register relative to SP.
	store func(code []byte) (s stores, ok bool)
	// address decodes the load of an address into a register.
	address func(code []byte, pc uint64) (target uint64, register uint8, ok bool)
	// tls finds the g of a thread in the code of tlsUser; nil if a register holds it.
	tls func(code []byte) (int64, error)
	// clock finds fields of runtime.m in the code of vdsoUser.
	clock func(code []byte) (curg, vdsoSP int64, ok bool)
}

// stores is one store of 8 bytes, or two of them next to each other.
type stores struct {
	registers []uint8
	// at is where the first goes, in bytes above SP.
	at int64
}

// of reports where a register goes.
func (s stores) of(register uint8) (at int64, ok bool) {
	i := slices.Index(s.registers, register)
	return s.at + 8*int64(i), i >= 0
}

func machineOf(m elf.Machine) (*machine, error) {
	switch m {
	case elf.EM_X86_64:
		return &machine{
			entry: 40, pushed: 8, arguments: []uint8{0, 3, 1, 7, 6}, step: 1, // AX BX CX DI SI
			call: callX86, store: storeX86, address: addressX86, tls: tlsX86, clock: clockX86,
		}, nil
	case elf.EM_AARCH64:
		return &machine{
			entry: 48, arguments: []uint8{0, 1, 2, 3, 4}, step: 4,
			call: callARM, store: storeARM, address: addressARM,
			clock: clockARM,
		}, nil
	}
	return nil, fmt.Errorf("architecture %v", m)
}

// callX86 decodes CALL rel32.
func callX86(b []byte, pc uint64) (uint64, bool) {
	if len(b) < 5 || b[0] != 0xe8 {
		return 0, false
	}
	return pc + 5 + relative(b[1:]), true
}

// storeX86 decodes MOV register, displacement(SP), of 8 bytes.
func storeX86(b []byte) (stores, bool) {
	if len(b) < 8 || b[0]&^4 != 0x48 || b[1] != 0x89 || b[2]&7 != 4 || b[3] != 0x24 {
		return stores{}, false
	}
	s := stores{registers: []uint8{b[2]>>3&7 | b[0]&4<<1}}
	switch b[2] >> 6 {
	case 0:
	case 1:
		s.at = int64(int8(b[4]))
	case 2:
		s.at = int64(relative(b[4:]))
	default:
		return stores{}, false
	}
	return s, true
}

// addressX86 decodes LEA displacement(IP), register.
func addressX86(b []byte, pc uint64) (uint64, uint8, bool) {
	if len(b) < 7 || b[0]&^4 != 0x48 || b[1] != 0x8d || b[2]&^0x38 != 5 {
		return 0, 0, false
	}
	return pc + 7 + relative(b[3:]), b[2]>>3&7 | b[0]&4<<1, true
}

// relative is a signed number of 32 bits.
func relative(b []byte) uint64 { return uint64(int64(int32(binary.LittleEndian.Uint32(b)))) }

// tlsX86 reads the offset from what runtime.stackcheck begins with, by what the
// linker has made of it: MOV offset(FS), register if the program is loaded where it
// was linked; MOV $offset, register and MOV FS(register) if it is not. The general
// form, which loads the offset from memory, stays in shared libraries.
func tlsX86(b []byte) (int64, error) {
	if len(b) < 11 {
		return 0, ErrDamaged
	}
	var off int64
	switch register := b[2] & 7; {
	case b[0] == 0x64 && b[1]&^4 == 0x48 && b[2] == 0x8b && b[3]&^0x38 == 4 && b[4] == 0x25:
		off = int64(relative(b[5:]))
	case b[0]&^1 == 0x48 && b[1] == 0xc7 && b[2]&^7 == 0xc0 && b[7] == 0x64 && b[8]&^5 == 0x48 && b[9] == 0x8b &&
		b[10]&^0x38 == register && register != 4 && register != 5:
		off = int64(relative(b[3:]))
	}
	if off >= 0 || off%8 != 0 || off < -1<<20 {
		return 0, errors.New("where a thread keeps its g is not in the code of " + tlsUser)
	}
	return off, nil
}

// clockX86 reads offsets from what runtime.nanotime1 does with its m:
//
//	MOVQ m_vdsoPC(BX), CX
//	MOVQ m_vdsoSP(BX), DX
//	...
//	CMPQ R14, m_curg(BX)
func clockX86(b []byte) (curg, vdsoSP int64, ok bool) {
	loads, compares := []byte{0x48, 0x8b, 0x8b}, []byte{0x4c, 0x3b, 0xb3}
	i := bytes.Index(b, loads)
	if i < 0 || len(b) < i+14 || !bytes.Equal(b[i+7:i+10], []byte{0x48, 0x8b, 0x93}) {
		return 0, 0, false
	}
	pc, sp := int64(relative(b[i+3:])), int64(relative(b[i+10:]))
	j := bytes.Index(b[i:], compares)
	if j < 0 || len(b) < i+j+7 || pc != sp+8 {
		return 0, 0, false
	}
	return int64(relative(b[i+j+3:])), sp, true
}

// clockARM is clockX86 with loads of R2, R3 and R0 from R21.
func clockARM(b []byte) (curg, vdsoSP int64, ok bool) {
	load := func(i int, register uint32) (int64, bool) {
		v := instruction(b[min(i, len(b)):])
		return int64(v >> 10 & 0xfff * 8), v&0xffc003ff == 0xf9400000|21<<5|register
	}
	for i := 0; i < len(b); i += 4 {
		pc, first := load(i, 2)
		sp, second := load(i+4, 3)
		if !first || !second || pc != sp+8 {
			continue
		}
		for j := i; j < min(i+64, len(b)); j += 4 {
			if curg, ok := load(j, 0); ok {
				return curg, sp, true
			}
		}
	}
	return 0, 0, false
}

func instruction(b []byte) uint32 {
	if len(b) < 4 {
		return 0
	}
	return binary.LittleEndian.Uint32(b)
}

// extended is the signed number in the low bits of an instruction.
func extended(v uint32, bits int) int64 { return int64(v) << (64 - bits) >> (64 - bits) }

// callARM decodes BL.
func callARM(b []byte, pc uint64) (uint64, bool) {
	i := instruction(b)
	return pc + uint64(extended(i, 26)*4), i>>26 == 0x25
}

// storeARM decodes STR register, [SP, #offset] and STP of two registers.
func storeARM(b []byte) (stores, bool) {
	i := instruction(b)
	switch {
	case i&0xffc003e0 == 0xf90003e0:
		return stores{[]uint8{uint8(i & 31)}, int64(i>>10&0xfff) * 8}, true
	case i&0xffc003e0 == 0xa90003e0:
		return stores{[]uint8{uint8(i & 31), uint8(i >> 10 & 31)}, extended(i>>15, 7) * 8}, true
	}
	return stores{}, false
}

// addressARM decodes ADRP register and ADD #offset to the same register.
func addressARM(b []byte, pc uint64) (uint64, uint8, bool) {
	if len(b) < 8 {
		return 0, 0, false
	}
	page, add := instruction(b), instruction(b[4:])
	register := page & 31
	if page&0x9f000000 != 0x90000000 || add&0xffc003ff != 0x91000000|register<<5|register {
		return 0, 0, false
	}
	base := pc&^0xfff + uint64(extended(page>>5&0x7ffff<<2|page>>29&3, 21)<<12)
	return base + uint64(add>>10&0xfff), uint8(register), true
}
