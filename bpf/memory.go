// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"fmt"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// What both sides see, see events.h.
type (
	Segment = samplerSegment
	Mapping = samplerMapping
	Process = samplerProcess
)

// The treaty's constants under Go names; events.h says what they mean.
const (
	SegmentNone   = uint32(samplerSegmentStateSEGMENT_NONE)
	SegmentAbsent = uint32(samplerSegmentStateSEGMENT_ABSENT)
	SegmentReady  = uint32(samplerSegmentStateSEGMENT_READY)

	BlockWords = len(samplerBlock{}.Words)
	ListLength = len(samplerList{}.Mappings)
	Lists      = int(samplerLimitLISTS)
	Segments   = int(samplerLimitSEGMENTS)
	Processes  = int(samplerLimitPROCESSES)
)

// Memory is the kernel memory that the walk reads its tables from, mapped into
// this process. Nothing here is synchronized with the kernel side: what a walk
// may be reading must not change, and its numbers are best stored last.
type Memory struct {
	// Words holds unwind tables, see profiler/unwind/FORMAT.md. It is made of
	// blocks of BlockWords.
	Words []uint32
	// Segments says by number which table belongs to what code. Number 0 has none.
	Segments []Segment
	// Mappings holds the lists of mappings of processes, in blocks of ListLength.
	Mappings []Mapping

	mapped [][]byte
}

// mapMemory maps the maps that both sides see.
func mapMemory(maps *samplerMaps) (_ *Memory, err error) {
	m := new(Memory)
	defer func() {
		if err != nil {
			err = errors.Join(err, m.unmap())
		}
	}()
	if m.Words, err = mapArray[uint32](m, maps.Blocks); err != nil {
		return nil, err
	}
	if m.Segments, err = mapArray[Segment](m, maps.Segments); err != nil {
		return nil, err
	}
	m.Mappings, err = mapArray[Mapping](m, maps.Lists)
	return m, err
}

// mapArray maps an array map of values without padding between them, see
// bpf(2) BPF_F_MMAPABLE.
func mapArray[T any](m *Memory, array *ebpf.Map) ([]T, error) {
	bytes := int(array.MaxEntries()) * int(array.ValueSize())
	data, err := unix.Mmap(array.FD(), 0, bytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map memory of %v: %w", array, err)
	}
	m.mapped = append(m.mapped, data)
	var value T
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(data))), bytes/int(unsafe.Sizeof(value))), nil
}

func (m *Memory) unmap() error {
	var errs []error
	for _, data := range m.mapped {
		errs = append(errs, unix.Munmap(data))
	}
	m.Words, m.Segments, m.Mappings, m.mapped = nil, nil, nil, nil
	return errors.Join(errs...)
}

// Memory is what both sides see. It is valid until Close.
func (s *Sampler) Memory() *Memory { return s.memory }

// SetProcess says where the mappings of a process are. Ticks from then on use
// them.
func (s *Sampler) SetProcess(pid uint32, p Process) error {
	if err := s.objects.Processes.Put(pid, p); err != nil {
		return fmt.Errorf("set mappings of process %d: %w", pid, err)
	}
	return nil
}

// DeleteProcess makes ticks of a process go to user space to be walked. It is
// not an error if that is so already.
func (s *Sampler) DeleteProcess(pid uint32) error {
	if err := s.objects.Processes.Delete(pid); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("delete mappings of process %d: %w", pid, err)
	}
	return nil
}

// SetEpoch begins a new epoch: segments used from then on carry its number, and
// stacks are sent with their frames again. Epochs go up from 1.
func (s *Sampler) SetEpoch(epoch uint32) error {
	if err := s.objects.Epoch.Set(epoch); err != nil {
		return fmt.Errorf("set epoch: %w", err)
	}
	return nil
}
