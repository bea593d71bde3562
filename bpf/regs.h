/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What a stack walk must know of an architecture: profiler/unwind/arch.go is the
 * Go side of it.
 */
#ifndef FLEETPROF_REGS_H
#define FLEETPROF_REGS_H

#include "events.h"
#include "kernel.h"

#if defined(__TARGET_ARCH_x86)

/* DWARF numbers, System V psABI for AMD64, figure 3.36. */
#define REGISTER_BX 3
#define REGISTER_FP 6
#define REGISTER_SP 7
#define REGISTER_G 14 /* Go's goroutine */

/* Calls leave the return address on the stack. */
#define LINK_REGISTER 0

/* The register that tells the mode the processor was in. */
static __always_inline __u64 mode(const struct user_abi *regs)
{
	return regs->cs;
}

static __always_inline bool is_user(__u64 mode)
{
	return (mode & 3) == 3; /* requested privilege level */
}

/* arch/x86/include/asm/segment.h */
#define USER32_CS 0x23

static __always_inline bool is_compat(__u64 mode)
{
	return (mode & 0xffff) == USER32_CS;
}

static __always_inline __u64 code_address(__u64 saved)
{
	return saved;
}

static __always_inline __u64 stack_address(__u64 saved)
{
	return saved;
}

/* How far below sp the innermost frame record may begin, in bytes. */
#define FRAME_BELOW_SP 0

/* Copies the registers by DWARF number, from a struct user_abi or signal_context. */
#define COPY_REGISTERS(to, from)                                                                   \
	do {                                                                                       \
		(to)->ip = (from)->ip;                                                             \
		(to)->r[0] = (from)->ax;                                                           \
		(to)->r[1] = (from)->dx;                                                           \
		(to)->r[2] = (from)->cx;                                                           \
		(to)->r[3] = (from)->bx;                                                           \
		(to)->r[4] = (from)->si;                                                           \
		(to)->r[5] = (from)->di;                                                           \
		(to)->r[6] = (from)->bp;                                                           \
		(to)->r[7] = (from)->sp;                                                           \
		(to)->r[8] = (from)->r8;                                                           \
		(to)->r[9] = (from)->r9;                                                           \
		(to)->r[10] = (from)->r10;                                                         \
		(to)->r[11] = (from)->r11;                                                         \
		(to)->r[12] = (from)->r12;                                                         \
		(to)->r[13] = (from)->r13;                                                         \
		(to)->r[14] = (from)->r14;                                                         \
		(to)->r[15] = (from)->r15;                                                         \
	} while (0)

/* struct rt_sigframe without pretcode (arch/x86/include/asm/sigframe.h): 40 bytes
 * from sp to the registers of uc_mcontext. */
#define SIGNAL_CONTEXT 40

struct signal_context {
	__u64 r8, r9, r10, r11, r12, r13, r14, r15;
	__u64 di, si, bp, bx, dx, ax, cx, sp, ip;
};

#elif defined(__TARGET_ARCH_arm64)

/* DWARF for the Arm 64-bit Architecture. There is no bx: none of its own. */
#define REGISTER_BX 19
#define REGISTER_G 28 /* Go's goroutine */
#define REGISTER_FP 29
#define REGISTER_RA 30
#define REGISTER_SP 31

#define LINK_REGISTER 1

/* The register that tells the mode the processor was in. */
static __always_inline __u64 mode(const struct user_abi *regs)
{
	return regs->pstate;
}

/* arch/arm64/include/uapi/asm/ptrace.h: the low bits are 0 in EL0t and in
 * 32-bit user mode alike. */
static __always_inline bool is_user(__u64 mode)
{
	return (mode & 0xf) == 0;
}

#define PSR_MODE32_BIT 0x10

static __always_inline bool is_compat(__u64 mode)
{
	return (mode & PSR_MODE32_BIT) != 0;
}

/* A saved return address may carry a pointer authentication code in the bits
 * above the 48 of a user address, Documentation/arch/arm64/pointer-authentication.rst. */
static __always_inline __u64 code_address(__u64 saved)
{
	return saved & ((1ULL << 48) - 1);
}

/* The top byte of a pointer is the program's to use, tagged-pointers.rst. */
static __always_inline __u64 stack_address(__u64 saved)
{
	return saved & ((1ULL << 56) - 1);
}

/*
 * Frame records lie at or above sp (AAPCS64, "The Frame Pointer"); not so Go's,
 * which keeps the caller's frame pointer at sp - 8 and the return address at sp
 * (src/cmd/compile/abi-internal.md, "arm64 architecture").
 */
#define FRAME_BELOW_SP 8

/* Copies the registers by DWARF number, from a struct user_abi or signal_context. */
#define COPY_REGISTERS(to, from)                                                                   \
	do {                                                                                       \
		_Pragma("clang loop unroll(full)") for (int i = 0; i < 31; i++)                    \
			(to)->r[i] = (from)->regs[i];                                              \
		(to)->r[REGISTER_SP] = (from)->sp;                                                 \
		(to)->ip = (from)->pc;                                                             \
	} while (0)

/* struct rt_sigframe (arch/arm64/kernel/signal.c): 128 bytes of siginfo, 176 to
 * uc_mcontext, 8 to its registers. */
#define SIGNAL_CONTEXT 312

struct signal_context {
	__u64 regs[31];
	__u64 sp, pc;
};

#endif
#endif
