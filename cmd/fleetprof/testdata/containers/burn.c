// SPDX-License-Identifier: Apache-2.0
// The only program in the containers of tests: burn NAME [SECONDS]. Calls its
// thread NAME and burns CPU, for so many seconds of it or until it is ended.
// Without arguments it sleeps until it is ended.
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

static volatile unsigned long sink;

static double used(void)
{
	struct timespec t;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static void end(int number)
{
	_exit(number == SIGTERM ? 0 : 1);
}

int main(int argc, char **argv)
{
	signal(SIGTERM, end); // as the first process of its PID namespace
	while (argc < 2)
		pause();
	prctl(PR_SET_NAME, argv[1]);
	double limit = argc > 2 ? atof(argv[2]) : 0;
	while (limit == 0 || used() < limit)
		for (int i = 0; i < 1000000; i++)
			sink += i;
}
