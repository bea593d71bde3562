// SPDX-License-Identifier: Apache-2.0

package bpf

import "unsafe"

// The records of the ring, see events.h. The addresses of a stack follow a Tick,
// memory follows a StackPiece, and of Labels only as many come as there are.
type (
	Tick       = samplerTick
	Registers  = samplerRegisters
	StackPiece = samplerStackPiece
	Request    = samplerRequest
	Label      = samplerLabel
	Labels     = samplerLabels
)

// The sizes of the records in the rings.
const (
	TickBytes       = int(unsafe.Sizeof(Tick{}))
	RegistersBytes  = int(unsafe.Sizeof(Registers{}))
	StackPieceBytes = int(unsafe.Sizeof(StackPiece{}))
	ActivityBytes   = int(unsafe.Sizeof(Activity{}))
	RequestBytes    = int(unsafe.Sizeof(Request{}))
	LabelBytes      = int(unsafe.Sizeof(Label{}))
	LabelsBytes     = int(unsafe.Offsetof(Labels{}.Label)) // without any
)

// The treaty's constants under Go names; events.h says what they mean.
const (
	MaxUserFrames = int(samplerLimitMAX_USER_FRAMES)
	LinkWords     = int(samplerLimitLINK_WORDS)

	RecordTick      = uint16(samplerRecordKindRECORD_TICK)
	RecordRegisters = uint16(samplerRecordKindRECORD_REGISTERS)
	RecordStack     = uint16(samplerRecordKindRECORD_STACK)
	RecordRequest   = uint16(samplerRecordKindRECORD_REQUEST)
	RecordLabels    = uint16(samplerRecordKindRECORD_LABELS)

	RequestHTTP = uint16(samplerRequestKindREQUEST_HTTP)
	RequestGRPC = uint16(samplerRequestKindREQUEST_GRPC)

	FlagKernelThread = uint8(samplerTickFlagTICK_KERNEL_THREAD)
	FlagKernelCut    = uint8(samplerTickFlagTICK_KERNEL_CUT)
	FlagKnown        = uint8(samplerTickFlagTICK_KNOWN)
	FlagLate         = uint8(samplerTickFlagTICK_LATE)
)
