// SPDX-License-Identifier: Apache-2.0
// arm64 flags: -fno-omit-frame-pointer
// Code without a file, as a just-in-time compiler writes it, which keeps a frame
// pointer; called from code that does not, and calling such. On arm64 a frame
// pointer does not tell where the caller's frame ends, so callers must have one.
#include "../record.h"

#ifndef BEHIND_CALLER
#define BEHIND_CALLER()
const char stop_reason[] = "complete";
#endif

/* jit(call, note) calls call(), having noted where it returns to. */
extern const char jit[], jit_end[];

#if defined(__x86_64__)
__asm__(".section .rodata\n"
	"jit: push %rbp\n"
	"mov %rsp, %rbp\n"
	"mov 8(%rsp), %rax\n"
	"mov %rax, (%rsi)\n"
	"call *%rdi\n"
	"pop %rbp\n"
	"ret\n"
	"jit_end:\n"
	".text\n");
#define SEE_CODE(code) /* the processor does by itself */
#else
__asm__(".section .rodata\n"
	"jit: stp x29, x30, [sp, #-32]!\n"
	"mov x29, sp\n"
	"str x30, [x1]\n"
	"blr x0\n"
	"ldp x29, x30, [sp], #32\n"
	"ret\n"
	"jit_end:\n"
	".text\n");
#define SEE_CODE(code)                                                                             \
	__asm__ volatile("dc cvau, %0\ndsb ish\nic ivau, %0\ndsb ish\nisb" ::"r"(code) : "memory")
#endif

FUNCTION static void leaf(void)
{
	CALLED();
	TRAP();
}

FUNCTION static void called(void)
{
	CALLED();
	leaf();
	__asm__ volatile("");
}

FUNCTION static void caller(void (*code)(void (*)(void), word *))
{
	CALLED();
	BEHIND_CALLER();
	depth++;
	code(called, &true_stack[depth - 1]);
	__asm__ volatile("");
}

void run(void)
{
	char *code = address_of((char *)0x10000000);

	CALLED();
	/* PROT_READ|WRITE|EXEC, MAP_PRIVATE|FIXED|ANONYMOUS */
	call_kernel(SYS_MMAP, (word)code, 4096, 7, 0x32, -1);
	for (int i = 0; i < jit_end - jit; i++)
		code[i] = jit[i];
	SEE_CODE(code); /* which is less than a cache line */
	put_line("anonymous", (word)code);
	caller((void (*)(void (*)(void), word *))code);
	__asm__ volatile("");
}
