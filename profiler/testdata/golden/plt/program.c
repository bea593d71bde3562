// SPDX-License-Identifier: Apache-2.0
// architectures: amd64
// shared: callee
// A call through a lazily bound procedure linkage table. What is recorded is the
// entry of the resolver, the dynamic linker's; tests put the instruction pointer
// back into the table from there.
#include "../record.h"

const char stop_reason[] = "complete";

/* The program's own global offset table: the words at 1 and 2 are for the
 * dynamic linker to fill in. */
extern word _GLOBAL_OFFSET_TABLE_[];

/* Finds two words on top of the return address. */
extern const char resolve[];
__asm__(".text\n"
	".type resolve, @function\n"
	"resolve:\n"
	".cfi_startproc\n"
	".cfi_adjust_cfa_offset 16\n"
	"ud2\n"
	".cfi_endproc\n"
	".size resolve, .-resolve\n");

FUNCTION static void caller(void)
{
	CALLED();
	CALL_NOTED("callee@plt");
}

void run(void)
{
	CALLED();
	_GLOBAL_OFFSET_TABLE_[1] = 0;
	_GLOBAL_OFFSET_TABLE_[2] = (word)resolve;
	caller();
	__asm__ volatile("");
}
