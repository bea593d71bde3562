// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/features"
	"golang.org/x/sys/unix"

	"github.com/fleetprof/fleetprof/sample"
)

// The compiled object says how the kernel side lays its records out; the Go
// types must say the same, byte for byte.
func TestLayoutsAreTheObjects(t *testing.T) {
	spec, err := loadSampler()
	if err != nil {
		t.Fatal(err)
	}
	rpc, err := loadRpc()
	if err != nil {
		t.Fatal(err)
	}
	for name, goType := range map[string]reflect.Type{
		"activity":           reflect.TypeFor[Activity](),
		"layout":             reflect.TypeFor[Layout](),
		"program":            reflect.TypeFor[Program](),
		"request":            reflect.TypeFor[Request](),
		"context":            reflect.TypeFor[Context](),
		"context_attributes": reflect.TypeFor[Attributes](),
		"label":              reflect.TypeFor[Label](),
		"labels":             reflect.TypeFor[Labels](),
		"tick":               reflect.TypeFor[Tick](),
		"registers":          reflect.TypeFor[Registers](),
		"stack_piece":        reflect.TypeFor[StackPiece](),
		"segment":            reflect.TypeFor[Segment](),
		"mapping":            reflect.TypeFor[Mapping](),
		"process":            reflect.TypeFor[Process](),
		"weight":             reflect.TypeFor[samplerWeight](),
		"pace":               reflect.TypeFor[Pace](),
	} {
		t.Run(name, func(t *testing.T) {
			var c *btf.Struct
			err := spec.Types.TypeByName(name, &c)
			if errors.Is(err, btf.ErrNotFound) {
				err = rpc.Types.TypeByName(name, &c)
			}
			if err != nil {
				t.Fatal(err)
			}
			if uintptr(c.Size) != goType.Size() {
				t.Errorf("%d bytes in C and %d in Go", c.Size, goType.Size())
			}
			for _, m := range c.Members {
				checkMember(t, m, goType)
			}
		})
	}
}

func checkMember(t *testing.T, m btf.Member, goType reflect.Type) {
	t.Helper()
	f, ok := goType.FieldByName(goName(m.Name))
	if !ok {
		t.Errorf("member %s has no Go field", m.Name)
		return
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
		samplerStopSTOP_UNSUPPORTED:   sample.StopUnsupported,
		samplerStopSTOP_REGISTER:      sample.StopRegister,
		samplerStopSTOP_STUCK:         sample.StopStuck,
		samplerStopSTOP_LATE:          sample.StopLate,
		samplerStopSTOP_CODE:          sample.StopCode,
	} {
		if uint32(c) != uint32(g) {
			t.Errorf("%v is %d in C and %d in Go", g, c, g)
		}
	}
}

// A table of 2 MiB and a small ring.
var testOptions = Options{RingBytes: 1 << 20, TableBlocks: 2, CgroupSubsystem: CgroupV2}

// needsRights skips where the kernel's answer is a missing permission, and
// never for root.
func needsRights(t *testing.T, err error) {
	t.Helper()
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
}

// kernelVersion is that of the running kernel: 5_17 is 5.17.
func kernelVersion(t *testing.T) (version int) {
	t.Helper()
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		t.Fatal(err)
	}
	var major, minor int
	if _, err := fmt.Sscanf(unix.ByteSliceToString(name.Release[:]), "%d.%d", &major, &minor); err != nil {
		t.Fatal(err)
	}
	return major*100 + minor
}

func loadOrSkip(t *testing.T) *Sampler {
	t.Helper()
	s, err := Load(testOptions)
	needsRights(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

// What sees requests must load on every kernel, by system calls on all, and by
// sockets' own tracepoints from 6.3 on.
func TestVerifierAcceptsRequests(t *testing.T) {
	s := loadOrSkip(t)
	for name, direct := range map[string]bool{"sockets": true, "calls": false} {
		t.Run(name, func(t *testing.T) {
			if direct && !hasSocketTracepoints() {
				if kernelVersion(t) >= 6_03 {
					t.Fatal("no tracepoints of sockets")
				}
				t.Skip("no tracepoints of sockets before Linux 6.3")
			}
			for _, headers := range []bool{false, true} {
				r, err := loadRequests(s, RequestOptions{RingBytes: 1 << 20, Headers: headers}, direct)
				needsRights(t, err)
				if err := r.Attach(); err != nil {
					t.Error(err)
				}
				if err := r.AttachTurns(); err != nil {
					t.Error(err)
				}
				if err := r.AttachCloses(); err != nil {
					t.Error(err)
				}
				if err := errors.Join(r.Close(), r.Close()); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// The chain of tail calls must load on every kernel, the loop from 5.17 on. The
// log is the verifier's own count of what it did: "processed 34778 insns (limit
// 1000000) …".
func TestVerifierAcceptsTheSampler(t *testing.T) {
	loadOrSkip(t)
	for name, loop := range map[string]bool{"loop": true, "chain": false} {
		t.Run(name, func(t *testing.T) {
			if err := features.HaveProgramHelper(ebpf.PerfEvent, asm.FnLoop); loop && err != nil {
				if kernelVersion(t) >= 5_17 {
					t.Fatal(err)
				}
				t.Skip(err)
			}
			spec, err := specOf(testOptions, loop)
			if err != nil {
				t.Fatal(err)
			}
			collection, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{
				Programs: ebpf.ProgramOptions{LogLevel: ebpf.LogLevelStats},
			})
			needsRights(t, err)
			defer collection.Close()
			for name, program := range collection.Programs {
				t.Log(name, program.VerifierLog)
			}
		})
	}
}

func TestMapBytes(t *testing.T) {
	s := loadOrSkip(t)
	bytes, err := s.MapBytes()
	if err != nil {
		t.Fatal(err)
	}
	least := uint64(testOptions.RingBytes + testOptions.TableBlocks<<20)
	if bytes < least {
		t.Errorf("maps take %d bytes, less than ring and tables alone", bytes)
	}
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
