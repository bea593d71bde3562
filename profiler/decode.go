// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"bytes"
	"encoding/binary"
	"fmt"

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
	le := binary.LittleEndian
	if kind := le.Uint16(record); kind != bpf.RecordTick {
		return sample.Raw{}, malformed{"kind", int(kind), int(bpf.RecordTick)}
	}
	kernel, user := int(le.Uint16(record[4:])), int(le.Uint16(record[6:]))
	frames := record[bpf.TickBytes:]
	if want := (kernel + user) * 8; len(frames) < want {
		return sample.Raw{}, malformed{"length of frames", len(frames), want}
	}
	addresses := make([]uint64, kernel+user)
	for i := range addresses {
		addresses[i] = le.Uint64(frames[i*8:])
	}
	flags := record[3]
	comm, _, _ := bytes.Cut(record[40:bpf.TickBytes], []byte{0})
	return sample.Raw{
		Stop:         sample.Stop(record[2]),
		KernelThread: flags&bpf.FlagKernelThread != 0,
		UserInKernel: flags&bpf.FlagInKernel != 0,
		Time:         le.Uint64(record[8:]),
		CgroupID:     le.Uint64(record[16:]),
		PID:          le.Uint32(record[24:]),
		TID:          le.Uint32(record[28:]),
		CPU:          le.Uint32(record[32:]),
		Comm:         string(comm),
		Kernel:       addresses[:kernel:kernel],
		User:         addresses[kernel:],
	}, nil
}
