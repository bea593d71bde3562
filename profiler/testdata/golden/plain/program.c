// SPDX-License-Identifier: Apache-2.0
// Frames without a frame pointer; on arm64 the innermost one has nothing but
// the link register.
#include "../record.h"

const char stop_reason[] = "complete";

FUNCTION static void leaf(void)
{
	CALLED_LEAF();
	TRAP();
}

FUNCTION static word inner(word a, word b)
{
	CALLED();
	leaf();
	return a + b;
}

/* Keeps more alive across the call than there are registers. */
FUNCTION static word outer(const word *v)
{
	word a = v[0], b = v[1], c = v[2], d = v[3], e = v[4], f = v[5], g = v[6], h = v[7];

	CALLED();
	return inner(a, b) + a * b + c * d + e * f + g * h;
}

void run(void)
{
	CALLED();
	outer(true_stack);
	__asm__ volatile("");
}
