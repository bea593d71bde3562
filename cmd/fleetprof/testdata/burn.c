// SPDX-License-Identifier: Apache-2.0
// Burns CPU in burn_inner(), called by burn_outer(), until it is ended.
volatile unsigned long sink;

__attribute__((noinline)) void burn_inner(void)
{
	for (int i = 0; i < 1000000; i++)
		sink += i;
}

__attribute__((noinline)) void burn_outer(void)
{
	for (;;) {
		burn_inner();
		sink++;
	}
}

int main(void)
{
	burn_outer();
}
