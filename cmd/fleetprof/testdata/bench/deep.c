// SPDX-License-Identifier: Apache-2.0
// Usage: deep DEPTH [BURN_MS [NAP_MS]]
//
// Burns CPU at the bottom of a recursion of DEPTH calls: for ever, or for
// BURN_MS of CPU time and then ends. With NAP_MS it never ends but sleeps
// between two burns, NAP_MS on average.
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static volatile unsigned long sink;

__attribute__((noinline)) static void burn(unsigned long rounds)
{
	for (unsigned long i = 0; i < rounds; i++)
		sink += i;
}

static long cpu_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

__attribute__((noinline)) static void bottom(long burn_ms)
{
	long end = cpu_ms() + burn_ms;

	do
		burn(100000);
	while (burn_ms == 0 || cpu_ms() < end);
}

__attribute__((noinline, noclone)) static long recurse(long depth, long burn_ms)
{
	long result = depth;

	if (depth == 0)
		bottom(burn_ms);
	else
		result += recurse(depth - 1, burn_ms);
	__asm__ volatile("" : "+r"(result)); // no tail call, no loop
	return result;
}

int main(int argc, char **argv)
{
	long depth = argc > 1 ? atol(argv[1]) : 0;
	long burn_ms = argc > 2 ? atol(argv[2]) : 0;
	long nap_ms = argc > 3 ? atol(argv[3]) : 0;

	srand(getpid());
	while (nap_ms > 0) {
		long nap = rand() % (2 * nap_ms);
		struct timespec t = {nap / 1000, nap % 1000 * 1000000};

		nanosleep(&t, NULL);
		recurse(depth, burn_ms);
	}
	recurse(depth, burn_ms);
}
