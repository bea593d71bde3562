// SPDX-License-Identifier: Apache-2.0
// Children that live for a few milliseconds: forked ones that go on with the
// stack of their parent, and ones that execute a program.
#include "burn.h"
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static NOIPA void child(void)
{
	for (int i = 0; i < 200; i++)
		burn();
}

static NOIPA pid_t forked(void)
{
	pid_t pid = fork();
	if (pid == 0) {
		child();
		_exit(0);
	}
	return pid;
}

static NOIPA pid_t vforked(char **command)
{
	pid_t pid = vfork();
	if (pid == 0) {
		execv(command[0], command);
		_exit(1);
	}
	return pid;
}

static NOIPA pid_t spawned(char **command)
{
	pid_t pid = -1;
	posix_spawn(&pid, command[0], NULL, NULL, command, environ);
	return pid;
}

int main(void)
{
	char *command[] = {"/bin/true", NULL};
	puts("main;forked;child;burn");
	puts("main;vforked");
	puts("main;spawned");
	ready();
	while (forked() > 0 && vforked(command) > 0 && spawned(command) > 0)
		for (int i = 0; i < 3; i++)
			wait(NULL);
	return 1;
}
