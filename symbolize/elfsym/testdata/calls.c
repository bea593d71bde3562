// SPDX-License-Identifier: Apache-2.0
// Calls functions of the C library; the address of one is taken, too.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	int (*volatile put)(const char *) = puts;

	for (int i = 0; i < argc; i++)
		printf("%zu %d\n", strlen(argv[i]), atoi(argv[i]));
	return put(getenv("HOME")) + puts("end") + (int)getpid() + (int)write(1, argv[0], 1);
}
