// SPDX-License-Identifier: Apache-2.0
// Usage: spawn COUNT EVERY_US PROGRAM [ARGUMENT…]
//
// Starts COUNT processes (0: no end of them), one every EVERY_US microseconds.
// They die with it.
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

static void start(pid_t parent, char **command)
{
	pid_t pid = fork();

	if (pid < 0) {
		perror("fork");
		exit(1);
	}
	if (pid > 0)
		return;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent) // it ended before the prctl
		_exit(1);
	execv(command[0], command);
	perror(command[0]);
	_exit(1);
}

int main(int argc, char **argv)
{
	struct timespec next;
	long count, every_us;

	if (argc < 4)
		return 2;
	count = atol(argv[1]);
	every_us = atol(argv[2]);
	signal(SIGCHLD, SIG_IGN); // no zombies
	clock_gettime(CLOCK_MONOTONIC, &next);
	for (long i = 0; count == 0 || i < count; i++) {
		start(getpid(), argv + 3);
		next.tv_nsec += every_us * 1000;
		next.tv_sec += next.tv_nsec / 1000000000;
		next.tv_nsec %= 1000000000;
		while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL) == EINTR)
			;
	}
	for (;;)
		pause();
}
