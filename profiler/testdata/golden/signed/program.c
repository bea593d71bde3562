// SPDX-License-Identifier: Apache-2.0
// architectures: arm64
// flags: -march=armv8.3-a -mbranch-protection=pac-ret+leaf
// Signed return addresses, on the stack and, in the innermost frame, in the link
// register.
#include "../record.h"

const char stop_reason[] = "complete";

FUNCTION static void leaf(void)
{
	CALLED_LEAF();
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
