// SPDX-License-Identifier: Apache-2.0
/*
 * What every program here includes: a start without a C library, and a handler
 * that writes down the registers and the stack at TRAP, together with what the
 * program itself knows of its stack: every function notes where it returns to.
 */
#ifndef RECORD_H
#define RECORD_H

/* Nothing is relocated: all must be found from the instruction pointer. */
#pragma GCC visibility push(hidden)

typedef unsigned long word;

/* What program.c defines: the functions from run() on, and why a walk ends. */
__attribute__((noipa)) void run(void);
extern const char stop_reason[];

/* The true stack, outermost first. */
static word true_stack[2048];
static int depth;

#define CALLED_FROM(address) (true_stack[depth++] = (word)(address))
/* To stand first in each function: it was called, and from here. */
#define CALLED() CALLED_FROM(__builtin_return_address(0))

/*
 * CALLED_LEAF() is the same for a function that calls no other, and CALL_NOTED()
 * calls one, in assembly, that does not note it by itself.
 */

#define FUNCTION __attribute__((noipa))

/* Memory that is part of the stack, lowest first. */
static struct {
	const word *from, *to;
} stacks[2];

static char other_stack[1 << 14] __attribute__((aligned(4096)));

#if defined(__x86_64__)

#define TRAP() __asm__ volatile("ud2")
#define CALLED_LEAF() CALLED()
#define CALL_NOTED(function)                                                                       \
	do {                                                                                       \
		word to;                                                                           \
		__asm__("lea 1f(%%rip), %0" : "=r"(to));                                           \
		CALLED_FROM(to);                                                                   \
		__asm__ volatile("call " function "\n1:" ::: "memory");                            \
	} while (0)

#define SYS_WRITE 1
#define SYS_MMAP 9
#define SYS_RT_SIGACTION 13
#define SYS_SIGALTSTACK 131
#define SYS_EXIT 60

static inline word call_kernel(word number, word a, word b, word c, word d, word e)
{
	register word r10 __asm__("r10") = d;
	register word r8 __asm__("r8") = e;
	register word r9 __asm__("r9") = 0;
	word result;

	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return result;
}

/* arch/x86/include/uapi/asm/sigcontext.h */
#define CONTEXT_OFFSET 40
#define CONTEXT_IP 16
#define CONTEXT_SP 15
static const char register_names[][4] = { "r8",  "r9",	"r10", "r11", "r12", "r13", "r14", "r15", "rdi",
					  "rsi", "rbp", "rbx", "rdx", "rax", "rcx", "rsp", "rip" };

/* The outermost frame says that it is. */
#define START_MARKED                                                                               \
	".cfi_undefined rip\n"                                                                     \
	"xor %ebp, %ebp\n"                                                                         \
	"mov %rsp, %rdi\n"                                                                         \
	"call begin\n"                                                                             \
	"hlt\n"

/* The outermost function returns to 0. */
#define START_ZERO                                                                                 \
	"mov %rsp, %rdi\n"                                                                         \
	"push $0\n"                                                                                \
	"jmp begin\n"

/* As in C libraries: the kernel's signal frame in words of DWARF, the CFA
 * *(rsp+160) and the return address at rsp+168; and one byte more in front, as
 * this is returned to but never calls. */
__asm__(".text\n"
	".globl restore\n.type restore, @function\n"
	".cfi_startproc\n.cfi_signal_frame\n"
	".cfi_escape 0x0f, 4, 0x77, 0xa0, 0x01, 0x06\n"
	".cfi_escape 0x10, 16, 3, 0x77, 0xa8, 0x01\n"
	"nop\n"
	"restore: mov $15, %eax\n"
	"syscall\n"
	".cfi_endproc\n"
	".size restore, .-restore\n");

#elif defined(__aarch64__)

#define TRAP() __asm__ volatile("udf #0")
/* A copy for the compiler to save x30 to would give the leaf a frame. */
#define CALLED_LEAF()                                                                              \
	do {                                                                                       \
		word from;                                                                         \
		__asm__ volatile("mov %0, x30" : "=r"(from));                                      \
		CALLED_FROM(from & ((1UL << 48) - 1));                                             \
	} while (0)
#define CALL_NOTED(function)                                                                       \
	do {                                                                                       \
		word to;                                                                           \
		__asm__("adr %0, 1f" : "=r"(to));                                                  \
		CALLED_FROM(to);                                                                   \
		__asm__ volatile("bl " function "\n1:" ::: "x30", "memory");                       \
	} while (0)

#define SYS_WRITE 64
#define SYS_EXIT 93
#define SYS_SIGALTSTACK 132
#define SYS_RT_SIGACTION 134
#define SYS_MMAP 222

static inline word call_kernel(word number, word a, word b, word c, word d, word e)
{
	register word x8 __asm__("x8") = number;
	register word x0 __asm__("x0") = a;
	register word x1 __asm__("x1") = b;
	register word x2 __asm__("x2") = c;
	register word x3 __asm__("x3") = d;
	register word x4 __asm__("x4") = e;
	register word x5 __asm__("x5") = 0;

	__asm__ volatile("svc #0"
			 : "+r"(x0)
			 : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
			 : "memory");
	return x0;
}

/* arch/arm64/include/uapi/asm/sigcontext.h, behind fault_address */
#define CONTEXT_OFFSET 184
#define CONTEXT_IP 32
#define CONTEXT_SP 31
static const char register_names[][4] = { "x0",	 "x1",	"x2",  "x3",  "x4",  "x5",  "x6",  "x7",  "x8",
					  "x9",	 "x10", "x11", "x12", "x13", "x14", "x15", "x16", "x17",
					  "x18", "x19", "x20", "x21", "x22", "x23", "x24", "x25", "x26",
					  "x27", "x28", "x29", "x30", "sp",  "pc" };

#define START_MARKED                                                                               \
	".cfi_undefined x30\n"                                                                     \
	"mov x29, #0\n"                                                                            \
	"mov x0, sp\n"                                                                             \
	"bl begin\n"                                                                               \
	"udf #1\n"

#define START_ZERO                                                                                 \
	"mov x0, sp\n"                                                                             \
	"mov x30, #0\n"                                                                            \
	"b begin\n"

/* As in the kernel's vdso. */
__asm__(".text\n"
	".globl restore\n.type restore, @function\n"
	".cfi_startproc\n.cfi_signal_frame\n"
	".cfi_def_cfa x29, 0\n"
	".cfi_offset x29, 0\n"
	".cfi_offset x30, 8\n"
	"nop\n"
	"restore: mov x8, #139\n"
	"svc #0\n"
	".cfi_endproc\n"
	".size restore, .-restore\n");

#endif

#ifndef START
#define START START_MARKED
#endif

__asm__(".text\n"
	".globl _start\n.type _start, @function\n"
	"_start:\n"
	".cfi_startproc\n" START ".cfi_endproc\n"
	".size _start, .-_start\n");

extern const char __ehdr_start[], restore[];

/* Hides from the compiler that it is a constant, which would be relocated. */
static char *address_of(char *memory)
{
	__asm__("" : "+r"(memory));
	return memory;
}

static char output[1 << 18];
static word written;

static void put(const char *text)
{
	while (*text)
		output[written++] = *text++;
}

static void put_number(word value)
{
	int digits = 1;

	while (digits < 16 && value >> 4 * digits)
		digits++;
	put("0x");
	while (digits-- > 0)
		output[written++] = "0123456789abcdef"[value >> 4 * digits & 15];
}

static void put_line(const char *name, word value)
{
	put(name);
	put(" ");
	put_number(value);
	put("\n");
}

/* Four words a line, each behind a blank. */
static void put_memory(const word *from, const word *to)
{
	for (const word *at = from; at < to; at++) {
		if ((at - from) % 4 == 0) {
			put(at == from ? "" : "\n");
			put("memory ");
			put_number((word)at);
		}
		put(" ");
		put_number(*at);
	}
	put("\n");
}

static void on_trap(int number, void *info, char *context)
{
	const word *registers = (const word *)(context + CONTEXT_OFFSET);
	word done = 0;

	put("stop ");
	put(stop_reason);
	put("\n");
	put_line("bias", (word)__ehdr_start & -(word)BIASED);
	put_line("frame", registers[CONTEXT_IP]);
	while (depth-- > 0)
		if (true_stack[depth])
			put_line("frame", true_stack[depth]);
	for (int i = 0; i < (int)(sizeof(register_names) / sizeof(register_names[0])); i++)
		put_line(register_names[i], registers[i]);
	if (!stacks[1].from) { /* else an interrupted one, and the one in use: */
		stacks[1].from = (const word *)registers[CONTEXT_SP];
	} else {
		stacks[0].from = (const word *)registers[CONTEXT_SP];
		stacks[0].to = (const word *)(other_stack + sizeof(other_stack));
	}
	for (int i = 0; i < 2; i++)
		if (stacks[i].from)
			put_memory(stacks[i].from, stacks[i].to);
	while (done < written)
		done += call_kernel(SYS_WRITE, 1, (word)output + done, written - done, 0, 0);
	call_kernel(SYS_EXIT, 0, 0, 0, 0, 0);
	(void)number, (void)info;
}

#define SIGILL 4
#define SIGTRAP 5

static void handle(int number, void (*handler)(int, void *, char *))
{
	struct {
		void (*handler)(int, void *, char *);
		word flags;
		const char *restorer;
		word mask;
	} action = { handler, 4 | 0x04000000 | 0x08000000, /* SA_SIGINFO, _RESTORER, _ONSTACK */
		     restore, 0 };

	call_kernel(SYS_RT_SIGACTION, number, (word)&action, 0, 8, 0);
}

FUNCTION void begin(const word *sp)
{
	struct {
		char *start;
		word flags, size;
	} other = { 0, 0, sizeof(other_stack) };

	CALLED();
	other.start = address_of(other_stack);
	stacks[1].to = sp;
	call_kernel(SYS_SIGALTSTACK, (word)&other, 0, 0, 0, 0);
	handle(SIGILL, on_trap);
	run();
	__asm__ volatile(""); /* so it is no tail call */
}

#endif
