// SPDX-License-Identifier: Apache-2.0
// sleep(1) under whatever name, which busybox is not: tests copy it.
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	return argc > 1 ? sleep(atoi(argv[1])) : 1;
}
