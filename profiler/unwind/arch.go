// SPDX-License-Identifier: Apache-2.0

package unwind

import "debug/elf"

// arch is what differs between the architectures. Registers go by their DWARF
// numbers.
type arch struct {
	machine        elf.Machine
	sp, fp, ra, bx uint64
	// g is the register in which Go code keeps its goroutine.
	g uint64
	// belowSP is how far below SP the innermost frame record may begin, in bytes: Go
	// keeps the caller's frame pointer there on arm64.
	belowSP uint64
	// pointer clears what is not part of an address in a frame pointer: the top byte
	// is the program's to use on arm64.
	pointer uint64
	// link says that calls leave the return address in register ra.
	link bool
	// Where the kernel puts the interrupted code's registers, in bytes from the
	// stack pointer of the code that returns from a signal handler: the general
	// registers by DWARF number, and the instruction pointer.
	signal   []uint16
	signalIP uint16
	// setsFP is the length in bytes of what Go code does between entering a frame
	// and having set the frame pointer.
	setsFP uint64
	// Where Go code has things that walks look for, in bytes: the arguments of a
	// call from SP, the SP that runtime.cgocallback saves from its SP, and which of
	// the two words of runtime.asmcgocall is the depth.
	goArgs, goOuterSP, goDepth uint64
}

// noRegister is the number of a register there is not.
const noRegister = ^uint64(0)

// archOf returns the architecture of a machine.
func archOf(m elf.Machine) (*arch, bool) {
	switch m {
	case elf.EM_X86_64:
		return &arch{
			machine: m, sp: 7, fp: 6, ra: 16, bx: 3, g: 14, pointer: 1<<64 - 1,
			// struct rt_sigframe without pretcode (arch/x86/include/asm/sigframe.h):
			// 40 bytes to uc_mcontext, which starts with r8. In the order rax, rdx,
			// rcx, rbx, rsi, rdi, rbp, rsp, r8 to r15.
			signal:   []uint16{144, 136, 152, 128, 112, 104, 120, 160, 40, 48, 56, 64, 72, 80, 88, 96},
			signalIP: 168,
			setsFP:   3, // MOVQ SP, BP
			goArgs:   0, goOuterSP: 0, goDepth: 0,
		}, true
	case elf.EM_AARCH64:
		// struct rt_sigframe (arch/arm64/kernel/signal.c): 128 bytes of siginfo, 176
		// to uc_mcontext, 8 to its registers x0 to x30 and sp.
		signal := make([]uint16, 32)
		for i := range signal {
			signal[i] = uint16(312 + 8*i)
		}
		return &arch{
			machine: m, sp: 31, fp: 29, ra: 30, bx: noRegister, g: 28, link: true,
			belowSP: 8, pointer: 1<<56 - 1,
			signal: signal, signalIP: 568,
			setsFP: 8, // MOVD R29, -8(RSP); SUB $8, RSP, R29
			goArgs: 8, goOuterSP: 16, goDepth: 8,
		}, true
	}
	return nil, false
}

// base returns the Base for a register.
func (a *arch) base(register uint64) (Base, bool) {
	switch {
	case register == a.sp:
		return SP, true
	case register == a.fp:
		return FP, true
	case register == a.bx:
		return BX, true
	case register < 32 && register != a.ra:
		return Other + Base(register), true
	}
	return 0, false
}
