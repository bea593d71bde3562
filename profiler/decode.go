// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"unsafe"

	"github.com/fleetprof/fleetprof/bpf"
	"github.com/fleetprof/fleetprof/sample"
)

// malformed is a record from the ring that does not keep the treaty.
type malformed struct {
	what      string
	got, want int
}

func (m malformed) Error() string {
	return fmt.Sprintf("decode ring record: %s is %d, want %d", m.what, m.got, m.want)
}

// decodeTick reads one record of the ring (struct tick of bpf/events.h and the
// addresses behind it). The result does not refer to record.
func decodeTick(record []byte) (sample.Raw, error) {
	if len(record) < bpf.TickBytes {
		return sample.Raw{}, malformed{"length", len(record), bpf.TickBytes}
	}
	var t bpf.Tick
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&t)), bpf.TickBytes), record)
	if t.Kind != bpf.RecordTick {
		return sample.Raw{}, malformed{"kind", int(t.Kind), int(bpf.RecordTick)}
	}
	kernel, user := int(t.KernelFrames), int(t.UserFrames)
	frames := record[bpf.TickBytes:]
	if want := (kernel + user) * 8; len(frames) < want {
		return sample.Raw{}, malformed{"length of frames", len(frames), want}
	}
	addresses := make([]uint64, kernel+user)
	for i := range addresses {
		addresses[i] = binary.LittleEndian.Uint64(frames[i*8:])
	}
	comm, _, _ := bytes.Cut(t.Comm[:], []byte{0})
	return sample.Raw{
		Stop:         sample.Stop(t.Stop),
		KernelThread: t.Flags&bpf.FlagKernelThread != 0,
		KernelCut:    t.Flags&bpf.FlagKernelCut != 0,
		Time:         t.TimeNs,
		CgroupID:     t.CgroupId,
		PID:          t.Tgid,
		TID:          t.Tid,
		Comm:         string(comm),
		Kernel:       addresses[:kernel:kernel],
		User:         addresses[kernel:],
	}, nil
}
