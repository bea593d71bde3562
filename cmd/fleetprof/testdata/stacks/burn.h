// SPDX-License-Identifier: Apache-2.0
// What the programs share. Each prints its own call chains, outermost function
// first, one a line, and then "ready". Every stack of it must be the beginning
// of one of them, or, where the line begins with "=", the whole of it; only the
// functions named in any of the lines count. Then it uses CPU time until it is
// killed.
#pragma once
#include <stdio.h>

// The compiler neither inlines such a function nor learns anything of it.
#define NOIPA __attribute__((noipa, unused))

static volatile unsigned long sink;

// burn takes some ten microseconds and is a leaf without a frame.
static NOIPA long burn(void)
{
	for (int i = 0; i < 10000; i++)
		sink += i;
	return sink;
}

static inline void ready(void)
{
	puts("ready");
	fflush(stdout);
}
