// SPDX-License-Identifier: Apache-2.0
// A timer interrupts work() at any instruction; the handler runs on a stack of
// its own, see sigaltstack(2), and uses more CPU time than what it interrupts.
#include "burn.h"
#include <signal.h>
#include <string.h>
#include <sys/time.h>

static NOIPA void handler_inner(void)
{
	for (int i = 0; i < 50; i++)
		burn();
}

static NOIPA void on_alarm(int number)
{
	handler_inner();
	sink += number;
}

static NOIPA long work_leaf(long x) { return x ^ (x << 7); }

static NOIPA long work_frame(long x)
{
	volatile long local[20];
	local[x & 15] = work_leaf(x);
	return work_leaf(local[x & 15]) + 1; /* not its last deed, or it would be a jump */
}

static NOIPA void work(void)
{
	for (int i = 0; i < 1000; i++)
		sink += work_frame(i);
}

int main(void)
{
	static char stack[64 << 10];
	stack_t alternate = {.ss_sp = stack, .ss_size = sizeof stack};
	struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_ONSTACK | SA_RESTART};
	struct itimerval often = {{0, 1000}, {0, 1000}};
	const char *interrupted[] = {"main", "main;work", "main;work;work_frame", "main;work;work_frame;work_leaf"};
	for (int i = 0; i < 4; i++)
		printf("%s;on_alarm;handler_inner;burn\n", interrupted[i]);
	puts(interrupted[3]);
	ready();
	if (sigaltstack(&alternate, NULL) || sigaction(SIGALRM, &action, NULL) || setitimer(ITIMER_REAL, &often, NULL))
		return 1;
	for (;;)
		work();
}
