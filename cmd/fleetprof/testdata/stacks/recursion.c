// SPDX-License-Identifier: Apache-2.0
// recursion DEPTH [THREADS [TIMES]]: calls itself DEPTH deep through functions
// with frames of 16 to 400 bytes, in an order without period, so that a stack
// that lacks frames in its middle is never the beginning of the true one. It
// does so in main(), or in that many threads; forever, or that many times.
#include "burn.h"
#include <pthread.h>
#include <stdlib.h>

typedef long function(unsigned left);

static function *const functions[8];

static unsigned pick(unsigned left) { return left * 2654435761u >> 29; }

static inline __attribute__((always_inline)) long deeper(unsigned left)
{
	return left == 0 ? burn() : functions[pick(left)](left - 1);
}

#define FRAME(bytes)                                              \
	static NOIPA long frame##bytes(unsigned left)             \
	{                                                         \
		volatile char local[bytes];                       \
		local[left % bytes] = left;                       \
		return deeper(left) + local[left % bytes];        \
	}
FRAME(16)
FRAME(32)
FRAME(48)
FRAME(80)
FRAME(128)
FRAME(200)
FRAME(304)
FRAME(400)

static function *const functions[8] = {
	frame16, frame32, frame48, frame80, frame128, frame200, frame304, frame400,
};
static const char *const names[8] = {
	"frame16", "frame32", "frame48", "frame80", "frame128", "frame200", "frame304", "frame400",
};

static void print_chain(const char *outermost, unsigned depth)
{
	printf("%s", outermost);
	for (unsigned left = depth; left > 0; left--)
		printf(";%s", names[pick(left)]);
	puts(";burn");
}

static unsigned depth, times = -1;

static NOIPA void *worker(void *unused)
{
	for (unsigned i = 0; i < times; i++)
		sink += deeper(depth);
	return unused;
}

int main(int argc, char **argv)
{
	depth = atoi(argv[1]);
	int threads = argc > 2 ? atoi(argv[2]) : 0;
	if (argc > 3)
		times = atoi(argv[3]);
	print_chain(threads ? "worker" : "main", depth);
	puts("main");
	ready();
	for (int i = 0; i < threads; i++) {
		pthread_t thread;
		if (pthread_create(&thread, NULL, worker, NULL))
			return 1;
		if (i == threads - 1)
			pthread_join(thread, NULL);
	}
	for (unsigned i = 0; i < times; i++)
		sink += deeper(depth);
}
