// SPDX-License-Identifier: Apache-2.0
// The outermost function returns to 0, as that of a new thread may.
#define START START_ZERO
#include "../record.h"

const char stop_reason[] = "not in any mapping";

FUNCTION static void leaf(void)
{
	CALLED();
	TRAP();
}

void run(void)
{
	CALLED();
	leaf();
	__asm__ volatile("");
}
