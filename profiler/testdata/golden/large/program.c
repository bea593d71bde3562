// SPDX-License-Identifier: Apache-2.0
// Frames larger than the piece of stack that the kernel side reads at once, and
// small ones between them.
#include "../record.h"

const char stop_reason[] = "complete";

FUNCTION static void leaf(char *memory)
{
	CALLED();
	(void)memory;
	TRAP();
}

FUNCTION static int inner(int n)
{
	char memory[6000];

	CALLED();
	memory[n] = n;
	leaf(memory);
	return memory[n];
}

FUNCTION static int between(int n)
{
	CALLED();
	return inner(n) + n;
}

FUNCTION static int outer(int n)
{
	char memory[4096];

	CALLED();
	memory[n] = n;
	__asm__ volatile("" ::"r"(memory) : "memory");
	return between(n) + memory[n];
}

void run(void)
{
	CALLED();
	outer(depth);
	__asm__ volatile("");
}
