// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"bytes"
	"encoding/binary"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/fleetprof/fleetprof/bpf"
	"github.com/fleetprof/fleetprof/profiler/unwind"
	"github.com/fleetprof/fleetprof/sample"
)

// encode writes a record as the kernel side does.
func encode(t testing.TB, parts ...any) []byte {
	t.Helper()
	var out bytes.Buffer
	for _, part := range parts {
		if err := binary.Write(&out, binary.LittleEndian, part); err != nil {
			t.Fatal(err)
		}
	}
	return out.Bytes()
}

func testTick(flags uint8) bpf.Tick {
	tick := bpf.Tick{
		Kind: bpf.RecordTick, Stop: uint8(sample.StopEnd), Flags: flags,
		KernelFrames: 2, UserFrames: 3,
		TimeNs: 1, CgroupId: 2, Tgid: 3, Tid: 4, Cpu: 5, Mm: 6, ExecId: 7,
	}
	copy(tick.Comm[:], "worker\x00rest")
	return tick
}

var testFrames = []uint64{10, 11, 20, 21, 22}

// decodeAll gives what the last of some records tells.
func decodeAll(t testing.TB, d *decoder, records ...[]byte) tick {
	t.Helper()
	for i, record := range records {
		got, ok, err := d.decode(record)
		if last := i == len(records)-1; err != nil || ok != last {
			t.Fatalf("record %d: ok %v, error %v", i, ok, err)
		} else if last {
			return got
		}
	}
	return tick{}
}

func TestDecodeTick(t *testing.T) {
	got := decodeAll(t, newDecoder(), encode(t, testTick(bpf.FlagKernelCut), testFrames))
	want := tick{
		Raw: sample.Raw{
			Time: 1, CgroupID: 2, PID: 3, TID: 4, Comm: "worker",
			KernelCut: true, Stop: sample.StopEnd,
			Kernel: []uint64{10, 11}, User: []uint64{20, 21, 22},
		},
		space: addressSpace{6, 7},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// The kernel side sends frames once in an epoch; what is in the ring when an
// epoch begins still refers to the one before.
func TestFramesComeOnceInAnEpoch(t *testing.T) {
	d := newDecoder()
	whole, known := testTick(0), testTick(bpf.FlagKnown)
	whole.StackHash, known.StackHash = 99, 99
	first := decodeAll(t, d, encode(t, whole, testFrames))
	for range 2 {
		if got := decodeAll(t, d, encode(t, known)); !reflect.DeepEqual(got, first) {
			t.Errorf("got %+v, want %+v", got, first)
		}
		d.frames.next()
	}
	if _, _, err := d.decode(encode(t, known)); !errors.As(err, new(malformed)) {
		t.Errorf("frames of two epochs ago: error %v, want malformed", err)
	}
}

func testRegisters() bpf.Registers {
	r := bpf.Registers{Kind: bpf.RecordRegisters, TimeNs: 1, Cpu: 5, Ip: 1000}
	r.R[7] = 0x2000
	return r
}

func piece(address uint64, cpu uint32) bpf.StackPiece {
	return bpf.StackPiece{Kind: bpf.RecordStack, Bytes: 8, Cpu: cpu, TimeNs: 1, Address: address}
}

func TestDecodeLateTick(t *testing.T) {
	d := newDecoder()
	other := testRegisters()
	other.Cpu = 6 // another CPU's come in between
	got := decodeAll(t, d,
		encode(t, testRegisters()),
		encode(t, piece(0x2000, 5), uint64(1)),
		encode(t, other),
		encode(t, piece(0x2008, 5), uint64(2)),
		encode(t, testTick(bpf.FlagLate), testFrames))
	want := lateStack{
		registers: unwind.Registers{IP: 1000, R: testRegisters().R},
		memory:    unwind.Memory{Start: 0x2000, Bytes: encode(t, uint64(1), uint64(2))},
		links:     map[uint64]uint64{20: 21, 28: 22},
	}
	if got.late == nil || !reflect.DeepEqual(*got.late, want) {
		t.Errorf("got %+v, want %+v", got.late, want)
	}
	for addr, want := range map[uint64]uint64{0x2000: 1, 0x2008: 2, 20: 21, 28: 22} {
		if value, ok := got.late.word(addr); !ok || value != want {
			t.Errorf("word at %#x is %d, %v; want %d", addr, value, ok, want)
		}
	}
	if len(got.User) != 0 {
		t.Errorf("links taken for frames: %v", got.User)
	}
	if len(d.coming) != 1 {
		t.Errorf("%d stacks remembered, want that of the other CPU", len(d.coming))
	}
}

// A tick without the records it needs says so.
func TestLateTickWithoutItsStack(t *testing.T) {
	d := newDecoder()
	old := testRegisters()
	old.TimeNs = 0
	got := decodeAll(t, d, encode(t, old), encode(t, testTick(bpf.FlagLate), testFrames))
	if got.late != nil || got.Stop != sample.StopLate {
		t.Errorf("got %+v, want %v", got, sample.StopLate)
	}
}

func TestDecodeRefusesWhatBreaksTheTreaty(t *testing.T) {
	whole := encode(t, testTick(0), testFrames)
	otherKind := bytes.Clone(whole)
	otherKind[0] = 99
	registers, stack := encode(t, testRegisters()), encode(t, piece(0x2000, 5), uint64(1))
	for name, record := range map[string][]byte{
		"empty":                   nil,
		"cut head":                whole[:bpf.TickBytes-1],
		"cut frames":              whole[:len(whole)-1],
		"other kind":              otherKind,
		"frames never sent":       encode(t, testTick(bpf.FlagKnown)),
		"cut registers":           registers[:len(registers)-1],
		"cut piece":               stack[:bpf.StackPieceBytes-1],
		"cut stack":               stack[:len(stack)-1],
		"piece without registers": encode(t, piece(0x2000, 6), uint64(1)),
		"gap before piece":        encode(t, piece(0x3000, 5), uint64(1)),
	} {
		d := newDecoder()
		for _, before := range [][]byte{registers, stack} {
			if _, _, err := d.decode(before); err != nil {
				t.Fatal(err)
			}
		}
		if _, ok, err := d.decode(record); ok || !errors.As(err, new(malformed)) {
			t.Errorf("%s: error %v, want malformed", name, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(encode(f, testRegisters()), encode(f, testTick(bpf.FlagLate), testFrames))
	f.Add(encode(f, testRegisters()), encode(f, piece(0x2000, 5), uint64(1)))
	f.Fuzz(func(t *testing.T, before, last []byte) {
		d := newDecoder()
		d.decode(before)
		got, ok, err := d.decode(last)
		if ok && err != nil {
			t.Errorf("ok with error %v", err)
		}
		if len(got.Kernel)+len(got.User) > len(last)/8 {
			t.Errorf("%d frames from %d bytes", len(got.Kernel)+len(got.User), len(last))
		}
	})
}

// A request comes before its tick, and only with it.
func TestDecodeRequest(t *testing.T) {
	long := strings.Repeat("/segment", 20)
	var method [16]uint8
	var path, route [128]uint8
	copy(method[:], "GET")
	copy(route[:], "GET /items/{id}")
	copy(path[:], long)
	r := bpf.Request{
		Kind: bpf.RecordRequest, Request: bpf.RequestHTTP, Cpu: 1, TimeNs: 5, Goroutine: 7, Id: 9, Method: method, Path: path, Route: route,
		MethodLength: 3, PathLength: uint32(len(long)), RouteLength: 15,
	}
	tickRecord := func(cpu uint32, time uint64) []byte {
		h := bpf.Tick{Kind: bpf.RecordTick, Cpu: cpu, TimeNs: time, Executor: uint8(sample.Goroutine), Goroutine: 7, Parent: 3}
		return encode(t, h)
	}
	for _, tt := range []struct {
		name string
		cpu  uint32
		time uint64
		want sample.Request
	}{
		{"its own", 1, 5, sample.Request{
			Source: sample.SourceGoroutine, Goroutine: 7, ID: 9, Method: "GET", Route: "GET /items/{id}",
			Path: strings.Repeat("/segment", 16), PathCut: true,
		}},
		{"another CPU's", 2, 5, sample.Request{}},
		{"an earlier one", 1, 6, sample.Request{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := newDecoder()
			if _, ok, err := d.decode(encode(t, r)); ok || err != nil {
				t.Fatal(ok, err)
			}
			got, ok, err := d.decode(tickRecord(tt.cpu, tt.time))
			if !ok || err != nil {
				t.Fatal(ok, err)
			}
			if got.Request != tt.want {
				t.Errorf("got %+v, want %+v", got.Request, tt.want)
			}
			if want := (sample.Executor{Kind: sample.Goroutine, Goroutine: 7, Parent: 3}); got.Executor != want {
				t.Errorf("executor %+v, want %+v", got.Executor, want)
			}
		})
	}
}
