// SPDX-License-Identifier: Apache-2.0
// Throws through 20 frames, each with something to destroy: most of the time is
// spent in the C++ runtime's own unwinder and in landing pads.
#include "burn.h"
#include <stdexcept>

struct Guard {
	NOIPA Guard() { sink++; }
	NOIPA ~Guard() { sink++; }
};

static NOIPA void thrower() { throw std::runtime_error("thrown"); }

static void even(int left), odd(int left);

static inline void deeper(int left)
{
	if (left == 0)
		thrower();
	else
		(left % 3 ? odd : even)(left - 1);
}

static NOIPA void even(int left)
{
	Guard guard;
	deeper(left);
}

static NOIPA void odd(int left)
{
	Guard first, second;
	volatile char local[100];
	local[left] = 1;
	deeper(left);
	sink += local[left];
}

static NOIPA void catcher()
{
	try {
		even(20);
	} catch (const std::exception &thrown) {
		sink += thrown.what()[0];
	}
}

static void print_chain(int last, const char *leaf)
{
	printf("main;catcher;even");
	for (int left = 20; left > last; left--)
		printf(";%s", left % 3 ? "odd" : "even");
	printf(";%s\n", leaf);
}

int main()
{
	for (int last = 0; last <= 20; last++) {
		print_chain(last, "Guard::Guard");
		print_chain(last, "Guard::~Guard");
	}
	print_chain(0, "thrower");
	ready();
	for (;;)
		catcher();
}
