// SPDX-License-Identifier: Apache-2.0
// architectures: amd64
// Interrupted in the prologue of a function that realigns the stack, where r10
// alone knows the frame. As GCC writes it.
#include "../record.h"

const char stop_reason[] = "complete";

__asm__(".text\n"
	".type realign, @function\n"
	"realign:\n"
	".cfi_startproc\n"
	"lea 8(%rsp), %r10\n"
	".cfi_def_cfa %r10, 0\n"
	"and $-64, %rsp\n"
	"push -8(%r10)\n"
	"ud2\n"
	".cfi_endproc\n"
	".size realign, .-realign\n");

FUNCTION static void caller(void)
{
	CALLED();
	CALL_NOTED("realign");
}

void run(void)
{
	CALLED();
	caller();
	__asm__ volatile("");
}
