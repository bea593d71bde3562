// SPDX-License-Identifier: Apache-2.0
// Frames whose size or place is known at run time only: aligned to more than
// the ABI gives (the compiler keeps the old stack pointer in a register, and
// the CFI is an expression), alloca(3), arrays of variable length.
#include "burn.h"
#include <alloca.h>
#include <string.h>

static NOIPA long aligned(int n)
{
	volatile char block[128] __attribute__((aligned(64)));
	block[n] = n;
	return burn() + block[n];
}

// With alloca(3) in an aligned frame, gcc keeps the CFA in memory.
static NOIPA long aligned_alloca(int n)
{
	volatile char block[64] __attribute__((aligned(128)));
	char *more = alloca(n * 40);
	memset(more, n, n * 40);
	block[n] = more[n];
	return aligned(n) + block[n] + more[1];
}

static NOIPA long variable(int n)
{
	volatile long array[n];
	array[n - 1] = n;
	return aligned_alloca(n) + array[n - 1] + burn();
}

static NOIPA long with_alloca(int n)
{
	char *block = alloca(n * 24);
	memset(block, n, n * 24);
	return variable(n) + block[n];
}

int main(void)
{
	puts("main;with_alloca;variable;aligned_alloca;aligned;burn");
	puts("main;with_alloca;variable;burn");
	ready();
	for (int n = 1;; n = n % 60 + 1)
		sink += with_alloca(n);
}
