// SPDX-License-Identifier: Apache-2.0
// A shared library: lib_outer calls lib_inner by way of the PLT.
#include "burn.h"

NOIPA long lib_leaf(long x) { return x * 3 + 1; }

NOIPA long lib_inner(long x)
{
	for (int i = 0; i < 50; i++)
		x = lib_leaf(x) + lib_leaf(i);
	return x;
}

NOIPA long lib_outer(long x) { return lib_inner(x) + lib_leaf(x) + 1; }
