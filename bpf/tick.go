// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"fmt"
	"unsafe"

	"github.com/cilium/ebpf"
)

// The records of the ring, see events.h. The addresses of a stack follow a Tick,
// memory follows a StackPiece, and of Labels only as many come as there are.
type (
	Tick       = samplerTick
	Registers  = samplerRegisters
	StackPiece = samplerStackPiece
	Request    = samplerRequest
	Label      = samplerLabel
	Labels     = samplerLabels
	// Attributes are those of a thread's OpenTelemetry context, and Context is where a
	// process has those.
	Attributes = samplerContextAttributes
	Context    = samplerContext
)

// The sizes of the records in the rings.
const (
	TickBytes       = int(unsafe.Sizeof(Tick{}))
	RegistersBytes  = int(unsafe.Sizeof(Registers{}))
	StackPieceBytes = int(unsafe.Sizeof(StackPiece{}))
	ActivityBytes   = int(unsafe.Sizeof(Activity{}))
	RequestBytes    = int(unsafe.Sizeof(Request{}))
	LabelBytes      = int(unsafe.Sizeof(Label{}))
	LabelsBytes     = int(unsafe.Offsetof(Labels{}.Label))    // without any
	AttributesBytes = int(unsafe.Offsetof(Attributes{}.Data)) // without any
)

// The treaty's constants under Go names; events.h says what they mean.
const (
	MaxUserFrames = int(samplerLimitMAX_USER_FRAMES)
	LinkWords     = int(samplerLimitLINK_WORDS)
	Contexts      = int(samplerLimitCONTEXTS)

	RecordTick      = uint16(samplerRecordKindRECORD_TICK)
	RecordRegisters = uint16(samplerRecordKindRECORD_REGISTERS)
	RecordStack     = uint16(samplerRecordKindRECORD_STACK)
	RecordRequest   = uint16(samplerRecordKindRECORD_REQUEST)
	RecordLabels    = uint16(samplerRecordKindRECORD_LABELS)
	RecordContext   = uint16(samplerRecordKindRECORD_CONTEXT)

	RequestHTTP = uint16(samplerRequestKindREQUEST_HTTP)
	RequestGRPC = uint16(samplerRequestKindREQUEST_GRPC)

	FlagKernelThread = uint8(samplerTickFlagTICK_KERNEL_THREAD)
	FlagKernelCut    = uint8(samplerTickFlagTICK_KERNEL_CUT)
	FlagKnown        = uint8(samplerTickFlagTICK_KNOWN)
	FlagLate         = uint8(samplerTickFlagTICK_LATE)
)

// SetContext says where the threads of a process have their OpenTelemetry context.
func (s *Sampler) SetContext(pid uint32, c Context) error {
	if err := s.objects.Contexts.Put(pid, c); err != nil {
		return fmt.Errorf("set thread context of process %d: %w", pid, err)
	}
	return nil
}

// DeleteContext forgets that; it is no error if nothing is known.
func (s *Sampler) DeleteContext(pid uint32) error {
	if err := s.objects.Contexts.Delete(pid); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("forget thread context of process %d: %w", pid, err)
	}
	return nil
}
