/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The registers a stack walk starts from, by architecture. */
#ifndef FLEETPROF_REGS_H
#define FLEETPROF_REGS_H

#include "kernel.h"

/* Where a walk stands: the same three on every architecture. */
struct user_regs {
	__u64 pc;
	__u64 sp;
	__u64 fp;
	bool compat; /* a 32-bit program */
};

#if defined(__TARGET_ARCH_x86)

static __always_inline bool in_user_mode(const struct perf_event_context *ctx)
{
	return (ctx->cs & 3) == 3; /* requested privilege level */
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

/* arch/x86/include/asm/segment.h */
#define USER32_CS 0x23

static __always_inline void regs_from_context(const struct perf_event_context *ctx,
					      struct user_regs *out)
{
	out->pc = ctx->ip;
	out->sp = ctx->sp;
	out->fp = ctx->bp;
	out->compat = (ctx->cs & 0xffff) == USER32_CS;
}

static __always_inline void regs_from_task(const struct pt_regs *saved, struct user_regs *out)
{
	out->pc = BPF_CORE_READ(saved, ip);
	out->sp = BPF_CORE_READ(saved, sp);
	out->fp = BPF_CORE_READ(saved, bp);
	out->compat = (BPF_CORE_READ(saved, cs) & 0xffff) == USER32_CS;
}

#elif defined(__TARGET_ARCH_arm64)

/* arch/arm64/include/uapi/asm/ptrace.h: the low bits are 0 in EL0t and in
 * 32-bit user mode alike. */
static __always_inline bool in_user_mode(const struct perf_event_context *ctx)
{
	return (ctx->pstate & 0xf) == 0;
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

#define PSR_MODE32_BIT 0x10

static __always_inline void regs_from_context(const struct perf_event_context *ctx,
					      struct user_regs *out)
{
	out->pc = ctx->pc;
	out->sp = ctx->sp;
	out->fp = ctx->regs[29];
	out->compat = (ctx->pstate & PSR_MODE32_BIT) != 0;
}

static __always_inline void regs_from_task(const struct pt_regs *saved, struct user_regs *out)
{
	out->pc = BPF_CORE_READ(saved, pc);
	out->sp = BPF_CORE_READ(saved, sp);
	out->fp = BPF_CORE_READ(saved, regs[29]);
	out->compat = (BPF_CORE_READ(saved, pstate) & PSR_MODE32_BIT) != 0;
}

#endif
#endif
