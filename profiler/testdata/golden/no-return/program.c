// SPDX-License-Identifier: Apache-2.0
// Functions that end with a call: the return address belongs to whatever comes
// behind them, where other rules hold.
#include "../record.h"

const char stop_reason[] = "complete";

#define ENDLESS __attribute__((noipa, noreturn))

ENDLESS static void leaf(void)
{
	CALLED();
	TRAP();
	__builtin_unreachable();
}

ENDLESS static void inner(word *memory)
{
	word more[8];

	CALLED();
	__asm__ volatile("" ::"r"(more), "r"(memory) : "memory");
	leaf();
}

ENDLESS static void outer(void)
{
	word memory[16];

	CALLED();
	inner(memory);
}

void run(void)
{
	CALLED();
	outer();
}
