// SPDX-License-Identifier: Apache-2.0
// Asks for the time, which runs in the vdso, see vdso(7).
#include "burn.h"
#include <time.h>

static NOIPA void ask(void)
{
	struct timespec now;
	for (int i = 0; i < 1000; i++) {
		clock_gettime(CLOCK_MONOTONIC, &now);
		sink += now.tv_nsec;
	}
}

int main(void)
{
	puts("main;ask");
	ready();
	for (;;)
		ask();
}
