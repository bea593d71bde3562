// SPDX-License-Identifier: Apache-2.0
// Calls of almost nothing through the PLT, so that many samples lie in it.
#include "burn.h"

long lib_leaf(long), lib_inner(long), lib_outer(long);

static NOIPA long through_plt(long x)
{
	for (int i = 0; i < 100; i++)
		x = lib_leaf(x) + lib_outer(lib_leaf(i));
	return x;
}

int main(void)
{
	puts("main;through_plt;lib_leaf");
	puts("main;through_plt;lib_outer;lib_leaf");
	puts("main;through_plt;lib_outer;lib_inner;lib_leaf");
	ready();
	for (;;)
		sink += through_plt(sink);
}
