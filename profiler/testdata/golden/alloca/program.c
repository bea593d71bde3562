// SPDX-License-Identifier: Apache-2.0
// Frames of a size known at run time only, which a frame pointer finds, between
// others without one.
#include "../record.h"

const char stop_reason[] = "complete";

FUNCTION static void leaf(const char *text)
{
	CALLED();
	(void)text;
	TRAP();
}

FUNCTION static int plain(const char *text, int n)
{
	CALLED();
	leaf(text);
	return n;
}

FUNCTION static int variable(int n)
{
	char text[n];

	CALLED();
	text[n / 2] = 1;
	return plain(text, n) + text[n / 2];
}

FUNCTION static int twice(int n)
{
	char *text = __builtin_alloca(n);

	CALLED();
	text[0] = 2;
	return variable(n * 3) + text[0];
}

void run(void)
{
	CALLED();
	twice(100 + depth);
	__asm__ volatile("");
}
