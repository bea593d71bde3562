// SPDX-License-Identifier: Apache-2.0

// Package tlscode finds the functions of TLS in a file, and where probes cost least
// that see their calls and returns.
//
// A uprobe takes the place of an instruction, which the kernel then emulates or executes
// by a single step. The step costs a second trap, ten times as much where a hypervisor
// takes traps too. On amd64 a push is emulated since Linux 4.16
// (arch/x86/kernel/uprobes.c, push_setup_xol_ops), but ENDBR64 and `sub $8,%rsp` are
// not, and with these the functions of OpenSSL begin.
//
// So probes go behind an ENDBR64. And where SSL_read_ex passes all of its arguments on to
// a function that SSL_read calls too, that function is probed in the place of both: it has
// the meaning of SSL_read_ex. In OpenSSL 1.1.1 to 3.5 it is ssl_read_internal
// (ssl/ssl_lib.c), which has no symbol. The same goes for writing.
//
// Files are made by the programs that are profiled: whatever cannot be told for sure
// leaves a probe at the function itself.
package tlscode

import (
	"debug/elf"

	"golang.org/x/arch/x86/x86asm"

	"github.com/fleetprof/fleetprof/internal/objfile"
)

// prologue is how many bytes of a function are looked at.
const prologue = 64

// Find gives the offsets in the file, in bytes, at which to probe the functions with these
// names. Of two that one probe sees, only that with the suffix _ex is there.
func Find(f *objfile.File, names []string) (offsets map[string]uint64, err error) {
	offsets, err = f.FindFunctions(names)
	if err != nil || f.Machine != elf.EM_X86_64 {
		return offsets, err
	}
	for name, at := range offsets {
		offsets[name] = behindMark(f, at)
	}
	for _, name := range []string{"SSL_read", "SSL_write"} {
		simple, hasSimple := offsets[name]
		full, hasFull := offsets[name+"_ex"]
		if !hasSimple || !hasFull || pushes(f, simple) && pushes(f, full) {
			continue
		}
		if inner, ok := shared(f, simple, full); ok {
			delete(offsets, name)
			offsets[name+"_ex"] = inner
		}
	}
	return offsets, nil
}

// code reads the first instructions of a function.
func code(f *objfile.File, offset uint64) (b []byte, address uint64, ok bool) {
	address, segment, ok := f.Locate(offset)
	if !ok {
		return nil, 0, false
	}
	b = make([]byte, min(prologue, segment.Offset+segment.FileSize-offset))
	return b, address, f.ReadAddress(b, address) == nil
}

// behindMark skips ENDBR64, which marks where indirect jumps may lead.
func behindMark(f *objfile.File, offset uint64) uint64 {
	const endbr64 = "\xf3\x0f\x1e\xfa"
	if b, _, ok := code(f, offset); ok && len(b) > len(endbr64) && string(b[:len(endbr64)]) == endbr64 {
		return offset + uint64(len(endbr64))
	}
	return offset
}

// pushes tells whether the instruction is a push of a register.
func pushes(f *objfile.File, offset uint64) bool {
	b, _, ok := code(f, offset)
	if ok && len(b) > 1 && b[0] == 0x41 { // REX.B: r8 to r15
		b = b[1:]
	}
	return ok && len(b) > 0 && b[0]&^7 == 0x50
}

// shared finds the function that both call first, the full one with its own arguments and
// for its own result, if it begins with a push.
func shared(f *objfile.File, simple, full uint64) (offset uint64, ok bool) {
	b, address, ok := code(f, full)
	if !ok {
		return 0, false
	}
	inner, behind, ok := firstCall(b, address, keepsArguments)
	if !ok || !returns(b[behind:]) {
		return 0, false
	}
	b, address, ok = code(f, simple)
	if !ok {
		return 0, false
	}
	same, _, ok := firstCall(b, address, func(x86asm.Inst) bool { return true })
	if !ok || same != inner || !f.Executable(inner) {
		return 0, false
	}
	offset, _ = f.Offset(inner)
	offset = behindMark(f, offset)
	return offset, pushes(f, offset)
}

// firstCall gives the address that the first call leads to, and how many bytes come up to
// behind it. Branches before it must go forward. allowed tells which instructions may come.
func firstCall(b []byte, address uint64, allowed func(x86asm.Inst) bool) (target uint64, behind int, ok bool) {
	for behind < len(b) {
		i, err := x86asm.Decode(b[behind:], 64)
		if err != nil {
			return 0, 0, false
		}
		behind += i.Len
		relative, direct := i.Args[0].(x86asm.Rel)
		switch {
		case i.Op == x86asm.CALL && direct:
			return address + uint64(behind) + uint64(int64(relative)), behind, true
		case i.Op == x86asm.CALL, i.Op == x86asm.JMP, i.Op == x86asm.RET, direct && relative < 0, !allowed(i):
			return 0, 0, false
		}
	}
	return 0, 0, false
}

// keepsArguments tells instructions of which it is sure that they leave the registers of
// the first four arguments alone.
func keepsArguments(i x86asm.Inst) bool {
	switch i.Op {
	case x86asm.PUSH, x86asm.NOP:
		return true
	case x86asm.SUB, x86asm.MOV:
		to, register := i.Args[0].(x86asm.Reg)
		return register && (to == x86asm.RSP || to == x86asm.RBP || to == x86asm.RBX || to == x86asm.RAX)
	}
	return false
}

// returns tells whether the result of a call is that of the function that goes on like
// this behind it, but for one below zero, which may become zero.
func returns(b []byte) bool {
	for len(b) > 0 {
		i, err := x86asm.Decode(b, 64)
		if err != nil {
			return false
		}
		b = b[i.Len:]
		switch to := i.Args[0]; i.Op {
		case x86asm.RET:
			return true
		case x86asm.CMOVS, x86asm.TEST, x86asm.NOP:
		case x86asm.ADD, x86asm.POP, x86asm.XOR, x86asm.MOV:
			if _, register := to.(x86asm.Reg); !register || to == x86asm.RAX || to == x86asm.EAX || to == x86asm.AX || to == x86asm.AL || to == x86asm.AH {
				return false
			}
		default:
			return false
		}
	}
	return false
}
