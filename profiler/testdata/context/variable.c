// SPDX-License-Identifier: Apache-2.0
/* The variable that leads to the thread's context: part of the program, or a library. */
#include <stddef.h>

__attribute__((visibility("default"))) __thread void *otel_thread_ctx_v1;
/* So that the variable is not the first one, and the segment is aligned. */
__thread char before[100] __attribute__((aligned(64))) = "x";

__attribute__((visibility("default"))) void attach(void *record)
{
	otel_thread_ctx_v1 = record;
	before[1] = record != NULL;
}
