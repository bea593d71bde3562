// SPDX-License-Identifier: Apache-2.0
#include "../burn.h"
#include "_cgo_export.h"

NOIPA long outer_c(long n) { return burn() + callback(n) + burn(); }

NOIPA long inner_c(long n) { return burn() + n; }
