// SPDX-License-Identifier: Apache-2.0

package bpf

// Tick is the head of a record in the ring, see struct tick in events.h.
type Tick = samplerTick

// The treaty's constants under Go names; events.h says what they mean.
const (
	TickBytes        = 56
	RecordTick       = uint16(samplerRecordKindRECORD_TICK)
	FlagKernelThread = uint8(samplerTickFlagTICK_KERNEL_THREAD)
	FlagInKernel     = uint8(samplerTickFlagTICK_IN_KERNEL)
	MaxKernelFrames  = 127
	MaxUserFrames    = len(samplerScratch{}.Frames) - MaxKernelFrames
	StopLast         = uint8(samplerStopSTOP_EXITING)
)
