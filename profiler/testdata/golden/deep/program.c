// SPDX-License-Identifier: Apache-2.0
// A recursion of 1,000 frames.
#include "../record.h"

#ifndef DEPTH
#define DEPTH 1000
const char stop_reason[] = "complete";
#endif

FUNCTION static void leaf(void)
{
	CALLED();
	TRAP();
}

FUNCTION static void recurse(int n)
{
	CALLED();
	if (n > 1)
		recurse(n - 1);
	else
		leaf();
	__asm__ volatile("");
}

void run(void)
{
	CALLED();
	recurse(DEPTH);
	__asm__ volatile("");
}
