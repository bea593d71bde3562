// SPDX-License-Identifier: Apache-2.0
// flags: -fno-omit-frame-pointer -mno-omit-leaf-frame-pointer
// Every frame has a frame pointer.
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
