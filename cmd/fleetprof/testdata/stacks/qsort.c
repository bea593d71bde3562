// SPDX-License-Identifier: Apache-2.0
// The C library calls back into the program.
#include "burn.h"
#include <stdlib.h>

static NOIPA int compare(const void *a, const void *b)
{
	int x = *(const int *)a, y = *(const int *)b;
	return (x > y) - (x < y);
}

static NOIPA void sort(void)
{
	enum { COUNT = 20000 };
	static int numbers[COUNT];
	for (int i = 0; i < COUNT; i++)
		numbers[i] = i * 2654435761u;
	qsort(numbers, COUNT, sizeof *numbers, compare);
	sink += numbers[0];
}

int main(void)
{
	puts("main;sort;compare");
	ready();
	for (;;)
		sort();
}
