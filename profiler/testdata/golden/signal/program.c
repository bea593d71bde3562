// SPDX-License-Identifier: Apache-2.0
// A signal handler on a stack of its own, and the code it interrupted: a
// prologue that has moved the stack pointer but not yet saved anything more.
#include "../record.h"

const char stop_reason[] = "complete";

extern const char interrupted[];

#if defined(__x86_64__)
__asm__(".text\n"
	".type victim, @function\n"
	"victim:\n"
	".cfi_startproc\n"
	"push %rbx\n"
	".cfi_def_cfa_offset 16\n"
	".cfi_offset %rbx, -16\n"
	"sub $40, %rsp\n"
	".cfi_def_cfa_offset 56\n"
	"int3\n"
	"interrupted: push %rbp\n"
	".cfi_def_cfa_offset 64\n"
	".cfi_offset %rbp, -64\n"
	"add $48, %rsp\n"
	".cfi_def_cfa_offset 16\n"
	"pop %rbx\n"
	".cfi_def_cfa_offset 8\n"
	"ret\n"
	".cfi_endproc\n"
	".size victim, .-victim\n");
#else
__asm__(".text\n"
	".type victim, @function\n"
	"victim:\n"
	".cfi_startproc\n"
	"sub sp, sp, #48\n"
	".cfi_def_cfa_offset 48\n"
	"interrupted: brk #0\n"
	"stp x29, x30, [sp]\n"
	".cfi_offset x29, -48\n"
	".cfi_offset x30, -40\n"
	"add sp, sp, #48\n"
	".cfi_def_cfa_offset 0\n"
	"ret\n"
	".cfi_endproc\n"
	".size victim, .-victim\n");
#endif

FUNCTION static void leaf(void)
{
	CALLED();
	TRAP();
}

FUNCTION static void on_signal(int number, void *info, char *context)
{
	CALLED_FROM(interrupted + 1); /* plus one, see FORMAT.md */
	CALLED();
	stacks[1].from = (const word *)((const word *)(context + CONTEXT_OFFSET))[CONTEXT_SP];
	leaf();
	__asm__ volatile("");
	(void)number, (void)info;
}

FUNCTION static void caller(void)
{
	CALLED();
	CALL_NOTED("victim");
}

void run(void)
{
	CALLED();
	handle(SIGTRAP, on_signal);
	caller();
	__asm__ volatile("");
}
