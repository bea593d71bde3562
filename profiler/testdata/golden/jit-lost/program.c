// SPDX-License-Identifier: Apache-2.0
// architectures: arm64
// Code without a file, called from such without frame pointers. Nothing tells
// where the caller's frame ends, and the frame pointer is 0 because no function
// has ever set it, not because nothing has called.

/* Forgets what the program knows of the frames that cannot be found. */
#define BEHIND_CALLER() (depth = 0)
const char stop_reason[] = "no frame pointer";

#include "../jit/program.c"
