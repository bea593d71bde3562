// SPDX-License-Identifier: Apache-2.0
#include <pthread.h>
#include <stdlib.h>
#include "_cgo_export.h"

#define NOIPA __attribute__((noipa))

volatile long turns;

NOIPA static long leaf(long n) { return n * 3 + turns; }

NOIPA long inner_c(long n)
{
	volatile char room[300];

	room[n & 255] = n;
	return leaf(n) + room[n & 255];
}

NOIPA long middle_c(long n) { return inner_go(n) + leaf(n); }

NOIPA long outer_c(long n) { return leaf(n) + middle_go(n) + leaf(n); }

NOIPA long forever_c(void)
{
	for (;;)
		turns++;
	return 1;
}

/* The goroutine's stack moves before C goes on. */
NOIPA long grow_c(void) { return grow_go(1 << 20) + forever_c() + 1; }

NOIPA static void *work_c(void *unused)
{
	for (long n = 0;; n++)
		turns += thread_go(n);
	return NULL;
}

void thread_c(void)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, work_c, NULL))
		abort();
}
