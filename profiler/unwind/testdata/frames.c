/* SPDX-License-Identifier: Apache-2.0 */
/* Frames of all the kinds that compilers make, for the tests of stack walks. */
#define _GNU_SOURCE
#include <alloca.h>
#include <immintrin.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <ucontext.h>

#define NOINLINE __attribute__((noinline, noclone))

volatile long sink;

NOINLINE void touch(void *p, size_t n)
{
	memset(p, (int)n, n); /* through the linkage table */
	sink += ((char *)p)[n / 2];
}

/* More arguments than registers: pushed, and popped by the caller. */
NOINLINE long many(long a, long b, long c, long d, long e, long f, long g, long h, long i)
{
	return sink + a + b * c - d + e * f + g - h * i;
}

NOINLINE long small(int n) { return many(n, 1, 2, 3, 4, 5, 6, 7, 8) + many(1, 2, n, 4, 5, 6, 7, 8, 9); }

/* A frame larger than a page. */
NOINLINE long large(int n)
{
	char buffer[20000];
	touch(buffer, sizeof(buffer) - n);
	return small(n) + buffer[n];
}

/* The size is known at run time: the frame pointer finds the frame. */
NOINLINE long variable(int n)
{
	char *a = alloca(n * 16 + 8);
	touch(a, n + 1);
	return small(n) + a[n / 2];
}

/* Aligned to more than the stack is. */
NOINLINE long aligned(int n)
{
	_Alignas(64) char a[256];
	touch(a, sizeof(a));
	return variable(n) + a[n];
}

/* Both: the CFA is kept in memory. */
NOINLINE long realigned(int n, ...)
{
	_Alignas(128) char a[256];
	char *b = alloca(n * 8 + 1);
	touch(a, sizeof(a));
	touch(b, n + 1);
	return aligned(n) + a[n] + b[n];
}

__attribute__((target("avx"))) NOINLINE long vectors(int n)
{
	__m256i a[4];
	touch(a, sizeof(a));
	__m256i b = _mm256_loadu_si256(&a[n & 3]);
	touch(&b, sizeof(b));
	return realigned(n, 1.0) + (long)_mm256_extract_epi64(b, 0);
}

NOINLINE long recurse(int depth)
{
	if (depth == 0)
		return vectors(7);
	if (depth % 3 == 0)
		return recurse(depth - 1) + large(depth & 7);
	if (depth % 3 == 1) {
		char a[64];
		touch(a, sizeof(a));
		return recurse(depth - 1) + a[depth % 64];
	}
	return recurse(depth - 1) + 1;
}

static int compare(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b + (int)(small(1) & 0);
}

static jmp_buf jump;

NOINLINE void throw(int n)
{
	char a[128];
	touch(a, sizeof(a));
	longjmp(jump, n + a[3]);
}

static void on_signal(int number, siginfo_t *info, void *context)
{
	(void)info, (void)context;
	sink += number + aligned(3);
}

NOINLINE void signals(void)
{
	stack_t stack = {.ss_size = 1 << 16};
	stack.ss_sp = mmap(0, stack.ss_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	sigaltstack(&stack, 0);
	struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_ONSTACK | SA_SIGINFO};
	sigaction(SIGUSR1, &action, 0);
	raise(SIGUSR1);
	/* From the first instruction of a function on. */
	sigaction(SIGUSR2, &action, 0);
	raise(SIGUSR2);
}

static void on_exit_handler(void) { sink += small(2); }

int main(int argc, char **argv)
{
	int numbers[12] = {5, 3, 9, 1, 7, 11, 2, 8, 4, 10, 6, 0};
	(void)argv;
	atexit(on_exit_handler);
	struct timespec now;
	sink += recurse(9 + argc);
	clock_gettime(CLOCK_MONOTONIC, &now); /* in the vDSO */
	qsort(numbers, 12, sizeof(int), compare);
	if (setjmp(jump) == 0)
		throw(1);
	signals();
	printf("%ld\n", sink & 1); /* the first call binds it */
	return 0;
}
