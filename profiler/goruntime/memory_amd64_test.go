// SPDX-License-Identifier: Apache-2.0

package goruntime

import (
	"syscall"
	"testing"
)

func threadOf(_ *testing.T, r *syscall.PtraceRegs) (thread, sp uint64) { return r.Fs_base, r.Rsp }
