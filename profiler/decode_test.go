// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"bytes"
	"encoding/binary"
	"errors"
	"reflect"
	"testing"

	"github.com/fleetprof/fleetprof/bpf"
	"github.com/fleetprof/fleetprof/sample"
)

// encodeTick writes a record as the kernel side does.
func encodeTick(t testing.TB, head bpf.Tick, frames ...uint64) []byte {
	t.Helper()
	var out bytes.Buffer
	for _, part := range []any{head, frames} {
		if err := binary.Write(&out, binary.LittleEndian, part); err != nil {
			t.Fatal(err)
		}
	}
	return out.Bytes()
}

func testTick() bpf.Tick {
	tick := bpf.Tick{
		Kind: bpf.RecordTick, Stop: uint8(sample.StopEnd), Flags: bpf.FlagKernelCut,
		KernelFrames: 2, UserFrames: 3,
		TimeNs: 1, CgroupId: 2, Tgid: 3, Tid: 4, Cpu: 5,
	}
	copy(tick.Comm[:], "worker\x00rest")
	return tick
}

func TestDecodeTick(t *testing.T) {
	got, err := decodeTick(encodeTick(t, testTick(), 10, 11, 20, 21, 22))
	if err != nil {
		t.Fatal(err)
	}
	want := sample.Raw{
		Time: 1, CgroupID: 2, PID: 3, TID: 4, Comm: "worker",
		KernelCut: true, Stop: sample.StopEnd,
		Kernel: []uint64{10, 11}, User: []uint64{20, 21, 22},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestDecodeTickRefusesWhatBreaksTheTreaty(t *testing.T) {
	whole := encodeTick(t, testTick(), 10, 11, 20, 21, 22)
	otherKind := bytes.Clone(whole)
	otherKind[0]++
	for name, record := range map[string][]byte{
		"empty":      nil,
		"cut head":   whole[:bpf.TickBytes-1],
		"cut frames": whole[:len(whole)-1],
		"other kind": otherKind,
	} {
		if _, err := decodeTick(record); !errors.As(err, new(malformed)) {
			t.Errorf("%s: error %v, want malformed", name, err)
		}
	}
}

func FuzzDecodeTick(f *testing.F) {
	f.Add(encodeTick(f, testTick(), 10, 11, 20, 21, 22))
	f.Fuzz(func(t *testing.T, record []byte) {
		raw, err := decodeTick(record)
		if err == nil && (len(raw.Kernel)+len(raw.User))*8 > len(record) {
			t.Errorf("%d frames from %d bytes", len(raw.Kernel)+len(raw.User), len(record))
		}
	})
}
