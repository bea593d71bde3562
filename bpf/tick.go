// SPDX-License-Identifier: Apache-2.0

package bpf

import "unsafe"

// Tick is the head of a record in the ring, see struct tick in events.h. The
// addresses of the stack follow it.
type Tick = samplerTick

// TickBytes is the size of a Tick in the ring.
const TickBytes = int(unsafe.Sizeof(Tick{}))

// The treaty's constants under Go names; events.h says what they mean.
const (
	RecordTick       = uint16(samplerRecordKindRECORD_TICK)
	FlagKernelThread = uint8(samplerTickFlagTICK_KERNEL_THREAD)
	FlagKernelCut    = uint8(samplerTickFlagTICK_KERNEL_CUT)
)
