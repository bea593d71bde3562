// SPDX-License-Identifier: Apache-2.0
// Burns CPU in inner(), called by middle(), called by outer(), for as many
// milliseconds of CPU time as the first argument says. With a second argument
// it then executes that program, with the rest of the arguments.
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

volatile unsigned long sink;

static double used(void)
{
	struct timespec t;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}

__attribute__((noinline)) void inner(double limit)
{
	do {
		for (int i = 0; i < 100000; i++)
			sink += i;
	} while (used() < limit);
	sink++;
}

__attribute__((noinline)) void middle(double limit)
{
	inner(limit);
	sink++;
}

__attribute__((noinline)) void outer(double limit)
{
	middle(limit);
	sink++;
}

int main(int argc, char **argv)
{
	outer(used() + atof(argv[1]));
	if (argc > 2)
		execv(argv[2], argv + 2);
	return 0;
}
