// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/fleetprof/fleetprof/sample"
)

// The compiled object says how the kernel side lays a tick out; the Go type
// must say the same, byte for byte.
func TestTickLayoutIsTheObjects(t *testing.T) {
	spec, err := loadSampler()
	if err != nil {
		t.Fatal(err)
	}
	var c *btf.Struct
	if err := spec.Types.TypeByName("tick", &c); err != nil {
		t.Fatal(err)
	}
	if int(c.Size) != TickBytes {
		t.Errorf("struct tick has %d bytes in C and %d in Go", c.Size, TickBytes)
	}
	goType := reflect.TypeOf(Tick{})
	for _, m := range c.Members {
		name := goName(m.Name)
		f, ok := goType.FieldByName(name)
		if !ok {
			t.Errorf("member %s of struct tick has no Go field %s", m.Name, name)
			continue
		}
		size, err := btf.Sizeof(m.Type)
		if err != nil {
			t.Fatal(err)
		}
		if f.Offset != uintptr(m.Offset.Bytes()) || int(f.Type.Size()) != size {
			t.Errorf("%s: offset %d, %d bytes in C; offset %d, %d bytes in Go",
				m.Name, m.Offset.Bytes(), size, f.Offset, f.Type.Size())
		}
	}
}

// goName spells a C name as bpf2go does: time_ns is TimeNs.
func goName(c string) (name string) {
	for part := range strings.SplitSeq(c, "_") {
		name += strings.ToUpper(part[:1]) + part[1:]
	}
	return name
}

// sample.Stop repeats enum stop, because the vocabulary imports nothing.
func TestStopsAreTheTreatys(t *testing.T) {
	for c, g := range map[samplerStop]sample.Stop{
		samplerStopSTOP_NONE:          sample.StopNone,
		samplerStopSTOP_END:           sample.StopEnd,
		samplerStopSTOP_FRAME_POINTER: sample.StopFramePointer,
		samplerStopSTOP_FAULT:         sample.StopFault,
		samplerStopSTOP_DEPTH:         sample.StopDepth,
		samplerStopSTOP_COMPAT:        sample.StopCompat,
		samplerStopSTOP_EXITING:       sample.StopExiting,
	} {
		if uint32(c) != uint32(g) {
			t.Errorf("%v is %d in C and %d in Go", g, c, g)
		}
	}
}

// loadOrSkip loads the sampler. It skips only where the kernel's answer is a
// missing permission, and never for root.
func loadOrSkip(t *testing.T) *Sampler {
	t.Helper()
	s, err := Load(Options{RingBytes: 1 << 20, CgroupSubsystem: CgroupV2})
	var unsupported *Unsupported
	if errors.As(err, &unsupported) && os.Geteuid() != 0 {
		t.Skip(err)
	}
	var verifier *ebpf.VerifierError
	if errors.As(err, &verifier) {
		t.Fatalf("%+v", verifier)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// The verifier's own count of what it did, which kernels before 5.16 tell in
// their log alone: "processed 114176 insns (limit 1000000) …".
func TestVerifierAcceptsTheSampler(t *testing.T) {
	s := loadOrSkip(t)
	bytes, err := s.MapBytes()
	if err != nil {
		t.Fatal(err)
	}
	if bytes < 1<<20 {
		t.Errorf("maps take %d bytes, less than the ring alone", bytes)
	}
	spec, err := loadSampler()
	if err != nil {
		t.Fatal(err)
	}
	var objects samplerObjects
	options := ebpf.CollectionOptions{Programs: ebpf.ProgramOptions{LogLevel: ebpf.LogLevelStats}}
	if err := spec.LoadAndAssign(&objects, &options); err != nil {
		t.Fatal(err)
	}
	defer objects.Close()
	t.Log(objects.Sample.VerifierLog)
}

func TestCloseTwice(t *testing.T) {
	s := loadOrSkip(t)
	for range 2 {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestCgroupSubsystemUnknown(t *testing.T) {
	if err := CheckBTF(); err != nil {
		t.Skip(err)
	}
	if n, err := CgroupSubsystem("nonsense"); err == nil {
		t.Errorf("controller \"nonsense\" has index %d", n)
	}
	if n, err := CgroupSubsystem("cpu"); err != nil || n < 0 {
		t.Errorf("controller cpu: index %d, %v", n, err)
	}
}
