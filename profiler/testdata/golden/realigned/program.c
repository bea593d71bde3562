// SPDX-License-Identifier: Apache-2.0
// architectures: amd64
// Frames that realign the stack and find their arguments on it: the CFA is kept
// in memory, and what the frame saved is counted from the frame pointer.
#include "../record.h"

const char stop_reason[] = "complete";

FUNCTION static void leaf(const void *memory)
{
	CALLED();
	(void)memory;
	TRAP();
}

/* More arguments than registers for them, and values that need rbx. */
FUNCTION static long inner(long a, long b, long c, long d, long e, long f, long g, long h)
{
	char aligned[64] __attribute__((aligned(64)));

	CALLED();
	aligned[a] = b;
	leaf(aligned);
	return aligned[c] + a + b + c + d + e + f + g + h;
}

FUNCTION static long plain(long a)
{
	CALLED();
	return inner(a, 1, 2, 3, 4, 5, 6, 7) + a;
}

FUNCTION static long outer(long a, long b, long c, long d, long e, long f, long g, long h)
{
	char aligned[128] __attribute__((aligned(128)));
	char *variable = __builtin_alloca(g * 8);

	CALLED();
	aligned[a] = b;
	variable[0] = 1;
	return plain(a) + aligned[c] + variable[h - h] + d + e + f + g + h;
}

void run(void)
{
	CALLED();
	outer(depth, 1, 2, 3, 4, 5, 6, 7);
	__asm__ volatile("");
}
