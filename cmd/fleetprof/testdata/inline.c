// SPDX-License-Identifier: Apache-2.0
// Usage: inline SECONDS (of CPU time)
// Works in a function that the compiler has no frame for.
#include <stdlib.h>
#include <time.h>

static inline __attribute__((always_inline)) unsigned mix(unsigned h)
{
	for (int i = 0; i < 1000; i++)
		h = (h ^ h >> 15) * 2654435761u;
	return h;
}

static inline __attribute__((always_inline)) unsigned hash_all(unsigned n)
{
	unsigned h = n;

	for (int i = 0; i < 1000; i++)
		h += mix(h);
	return h;
}

static __attribute__((noinline)) unsigned work(unsigned n) { return hash_all(n) + 1; }

int main(int argc, char **argv)
{
	clock_t end = CLOCKS_PER_SEC * (argc > 1 ? atof(argv[1]) : 1);
	volatile unsigned sum = 0;

	while (clock() < end)
		sum += work(sum);
	return 0;
}
