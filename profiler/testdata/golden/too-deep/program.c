// SPDX-License-Identifier: Apache-2.0
// A recursion deeper than the limit of 1,024 frames.
#define DEPTH 1030
const char stop_reason[] = "too deep";

#include "../deep/program.c"
