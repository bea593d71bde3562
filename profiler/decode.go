// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"unsafe"

	"github.com/fleetprof/fleetprof/bpf"
	"github.com/fleetprof/fleetprof/profiler/unwind"
	"github.com/fleetprof/fleetprof/sample"
)

// tick is one tick as the ring delivered it.
type tick struct {
	sample.Raw
	space addressSpace
	// attributes are those of the thread's OpenTelemetry context, as the program has
	// them.
	attributes threadAttributes
	// late is what to walk the user stack with; nil if the kernel side did it.
	late *lateStack
}

// addressSpace tells the programs apart that one process runs one after another:
// the kernel's mm, and how many exec(2) led to it.
type addressSpace struct{ mm, execID uint64 }

// lateStack is the registers and the memory of a user stack: its inner end in
// one piece, and the words that frame pointers lead to elsewhere.
type lateStack struct {
	registers unwind.Registers
	memory    unwind.Memory
	links     map[uint64]uint64 // address to value
}

// word reads 8 bytes of the stack.
func (s *lateStack) word(addr uint64) (uint64, bool) {
	if value, ok := s.memory.Word(addr); ok {
		return value, true
	}
	value, ok := s.links[addr]
	return value, ok
}

// addLinks takes the words that frame pointers lead to, see LINK_WORDS of the
// treaty.
func (s *lateStack) addLinks(words []uint64) {
	s.links = make(map[uint64]uint64, len(words))
	for ; len(words) >= bpf.LinkWords; words = words[bpf.LinkWords:] {
		s.links[words[0]] = words[1]
		s.links[words[0]+8] = words[2]
	}
}

// malformed is a record from the ring that does not keep the treaty.
type malformed struct {
	what      string
	got, want int
}

func (m malformed) Error() string {
	return fmt.Sprintf("decode ring record: %s is %d, want %d", m.what, m.got, m.want)
}

// decoder turns records of the ring into ticks. It remembers what records refer
// to: the frames of earlier ticks, and the registers and memory that come before
// theirs. Not safe for concurrent use.
type decoder struct {
	frames frameCache
	// coming is by CPU the tick to come and its stack.
	coming map[uint32]*comingStack
	// requests is by CPU what the executor of the tick to come serves, published and
	// attributes what the program says of it.
	requests   map[uint32]coming[sample.Request]
	published  map[uint32]coming[[]sample.Attribute]
	attributes map[uint32]coming[threadAttributes]
}

type comingStack struct {
	time uint64
	late lateStack
}

func newDecoder() *decoder {
	return &decoder{
		frames: newFrameCache(), coming: make(map[uint32]*comingStack),
		requests:   make(map[uint32]coming[sample.Request]),
		published:  make(map[uint32]coming[[]sample.Attribute]),
		attributes: make(map[uint32]coming[threadAttributes]),
	}
}

// decode reads one record; ok is false if it is only a part of a tick. The
// result does not refer to record.
func (d *decoder) decode(record []byte) (t tick, ok bool, err error) {
	if len(record) < 2 {
		return tick{}, false, malformed{"length", len(record), bpf.TickBytes}
	}
	switch kind := binary.LittleEndian.Uint16(record); kind {
	case bpf.RecordTick:
		t, err = d.tick(record)
		return t, err == nil, err
	case bpf.RecordRegisters:
		return tick{}, false, d.registers(record)
	case bpf.RecordStack:
		return tick{}, false, d.piece(record)
	case bpf.RecordRequest:
		return tick{}, false, d.request(record)
	case bpf.RecordLabels:
		return tick{}, false, d.labels(record)
	case bpf.RecordContext:
		return tick{}, false, d.context(record)
	default:
		return tick{}, false, malformed{"kind", int(kind), int(bpf.RecordTick)}
	}
}

// head copies the fixed part of a record.
func head[T any](record []byte, size int) (h T, rest []byte, err error) {
	if len(record) < size {
		return h, nil, malformed{"length", len(record), size}
	}
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&h)), size), record)
	return h, record[size:], nil
}

func (d *decoder) tick(record []byte) (tick, error) {
	h, rest, err := head[bpf.Tick](record, bpf.TickBytes)
	if err != nil {
		return tick{}, err
	}
	kernel, user := int(h.KernelFrames), int(h.UserFrames)
	frames, err := d.addresses(&h, rest)
	if err != nil {
		return tick{}, err
	}
	comm, _, _ := bytes.Cut(h.Comm[:], []byte{0})
	t := tick{
		Raw: sample.Raw{
			Stop:         sample.Stop(h.Stop),
			KernelThread: h.Flags&bpf.FlagKernelThread != 0,
			KernelCut:    h.Flags&bpf.FlagKernelCut != 0,
			Time:         h.TimeNs,
			Weight:       sample.Weight{Ticks: h.Weight, Period: h.PeriodNs},
			CgroupID:     h.CgroupId,
			PID:          h.Tgid,
			TID:          h.Tid,
			Comm:         string(comm),
			Kernel:       frames[:kernel:kernel],
			User:         frames[kernel : kernel+user],
			Executor:     sample.Executor{Kind: sample.ExecutorKind(h.Executor), Goroutine: h.Goroutine, Parent: h.Parent},
		},
		space: addressSpace{h.Mm, h.ExecId},
	}
	t.Request = take(d.requests, h.Cpu, h.TimeNs)
	t.Published = take(d.published, h.Cpu, h.TimeNs)
	t.attributes = take(d.attributes, h.Cpu, h.TimeNs)
	coming := d.coming[h.Cpu]
	delete(d.coming, h.Cpu)
	if h.Flags&bpf.FlagLate != 0 {
		links := t.User
		t.User = nil
		if coming == nil || coming.time != h.TimeNs {
			t.Stop = sample.StopLate // its records were malformed
		} else {
			t.late = &coming.late
			t.late.addLinks(links)
		}
	}
	return t, nil
}

// addresses gives the frames of a tick, from the record or an earlier one.
func (d *decoder) addresses(h *bpf.Tick, rest []byte) ([]uint64, error) {
	want := int(h.KernelFrames) + int(h.UserFrames)
	if h.Flags&bpf.FlagKnown != 0 {
		frames := d.frames.get(h.StackHash)
		if len(frames) != want {
			return nil, malformed{"number of frames known", len(frames), want}
		}
		return frames, nil
	}
	if len(rest) < want*8 {
		return nil, malformed{"length of frames", len(rest), want * 8}
	}
	frames := make([]uint64, want)
	for i := range frames {
		frames[i] = binary.LittleEndian.Uint64(rest[i*8:])
	}
	if h.StackHash != 0 {
		d.frames.put(h.StackHash, frames)
	}
	return frames, nil
}

func (d *decoder) registers(record []byte) error {
	h, _, err := head[bpf.Registers](record, bpf.RegistersBytes)
	if err != nil {
		return err
	}
	d.coming[h.Cpu] = &comingStack{
		time: h.TimeNs,
		late: lateStack{registers: unwind.Registers{IP: h.Ip, R: h.R}},
	}
	return nil
}

func (d *decoder) piece(record []byte) error {
	h, memory, err := head[bpf.StackPiece](record, bpf.StackPieceBytes)
	if err != nil {
		return err
	}
	if len(memory) < int(h.Bytes) {
		return malformed{"length of a stack piece", len(memory), int(h.Bytes)}
	}
	c := d.coming[h.Cpu]
	if c == nil || c.time != h.TimeNs {
		return malformed{"stack piece without registers, CPU", int(h.Cpu), 0}
	}
	m := &c.late.memory
	if len(m.Bytes) == 0 {
		m.Start = h.Address
	} else if want := m.Start + uint64(len(m.Bytes)); h.Address != want {
		return malformed{"gap before a stack piece", int(h.Address - want), 0}
	}
	m.Bytes = append(m.Bytes, memory[:h.Bytes]...)
	return nil
}

func (d *decoder) request(record []byte) error {
	h, _, err := head[bpf.Request](record, bpf.RequestBytes)
	if err != nil {
		return err
	}
	path, whole := goString(h.Path[:], h.PathLength)
	r := sample.Request{Source: sample.SourceGoroutine, Goroutine: h.Goroutine, ID: h.Id}
	if h.Request == bpf.RequestGRPC {
		if whole {
			r.RPC = path
		}
	} else {
		r.Path, r.PathCut = path, !whole
		r.Method, _ = goString(h.Method[:], h.MethodLength)
		if route, whole := goString(h.Route[:], h.RouteLength); whole {
			r.Route = route
		}
	}
	d.requests[h.Cpu] = coming[sample.Request]{h.TimeNs, r}
	return nil
}

// goString is a string of which so many bytes as there was room for are in buf.
func goString(buf []byte, length uint32) (s string, whole bool) {
	return string(buf[:min(int(length), len(buf))]), int(length) <= len(buf)
}
