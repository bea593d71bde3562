// SPDX-License-Identifier: Apache-2.0

package goruntime

import "debug/elf"

// probe is the address of the instruction of a function that saves the frame pointer
// (arm64: the link register), 0 if there is none that is told for sure. It comes
// behind the check of the stack's size, so that it is executed once in a call.
func (s *finder) probe(f *function, machine elf.Machine) uint64 {
	const prologue = 64 // bytes
	code, err := s.table.code(f, prologue)
	if err != nil {
		return 0
	}
	for i := 0; i+4 <= len(code); i += s.step {
		if machine == elf.EM_X86_64 && savesFrame(code, i) || machine == elf.EM_AARCH64 && savesLink(code[i:]) {
			return f.start + uint64(i)
		}
	}
	return 0
}

// savesFrame tells push %rbp behind a jump if below or equal, near or short.
func savesFrame(code []byte, i int) bool {
	const push, short = 0x55, 0x76
	return code[i] == push && (i >= 6 && code[i-2] == short || i >= 10 && code[i-6] == 0x0f && code[i-5] == 0x86)
}

// savesLink tells str x30, [sp, #-n]!.
func savesLink(code []byte) bool {
	word := uint32(code[0]) | uint32(code[1])<<8 | uint32(code[2])<<16 | uint32(code[3])<<24
	return word&0xffe00fff == 0xf8000ffe
}
