// SPDX-License-Identifier: Apache-2.0
// flags: -fno-omit-frame-pointer -mno-omit-leaf-frame-pointer -fno-asynchronous-unwind-tables
// Functions without unwind information between such that have it: only the
// frame pointer finds the way.
#include "../record.h"

const char stop_reason[] = "complete";

FUNCTION static void leaf(void)
{
	CALLED();
	TRAP();
}

FUNCTION static int inner(int n)
{
	CALLED();
	leaf();
	return n;
}

FUNCTION static int outer(int n)
{
	CALLED();
	return inner(n) + n;
}

void run(void)
{
	CALLED();
	outer(depth);
	__asm__ volatile("");
}
