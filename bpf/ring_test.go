// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"os"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"
)

// testRing is a ring and a program that puts a record into it, with or without waking its reader.
func testRing(t *testing.T) (r *Ring, put func(wake bool)) {
	t.Helper()
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.RingBuf, MaxEntries: uint32(os.Getpagesize())})
	if err != nil && os.Geteuid() != 0 {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	programs := make(map[bool]*ebpf.Program)
	for wake, flags := range map[bool]int32{true: unix.BPF_RB_FORCE_WAKEUP, false: unix.BPF_RB_NO_WAKEUP} {
		p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SocketFilter, License: "Dual MIT/GPL", Instructions: asm.Instructions{
			asm.Mov.Imm(asm.R1, 7),
			asm.StoreMem(asm.RFP, -8, asm.R1, asm.DWord),
			asm.LoadMapPtr(asm.R1, m.FD()),
			asm.Mov.Reg(asm.R2, asm.RFP),
			asm.Add.Imm(asm.R2, -8),
			asm.Mov.Imm(asm.R3, 8),
			asm.Mov.Imm(asm.R4, flags),
			asm.FnRingbufOutput.Call(),
			asm.Return(),
		}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { p.Close() })
		programs[wake] = p
	}
	if r, err = newRing(m); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r, func(wake bool) {
		if result, err := programs[wake].Run(&ebpf.RunOptions{Data: make([]byte, 14)}); err != nil || result != 0 {
			t.Errorf("put a record: %d, %v", int32(result), err)
		}
	}
}

// waits calls Wait with a deadline that never comes.
func waits(r *Ring) <-chan error {
	done := make(chan error, 1)
	go func() { done <- r.Wait(time.Now().Add(time.Hour)) }()
	return done
}

func await(t *testing.T, done <-chan error) error {
	t.Helper()
	select {
	case err := <-done:
		return err
	case <-time.After(10 * time.Second):
		t.Fatal("still waiting")
	}
	return nil
}

// readAll empties a ring and counts its records.
func readAll(t *testing.T, r *Ring) (n int) {
	t.Helper()
	for record := new(ringbuf.Record); ; n++ {
		err := r.ReadInto(record)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return n
		}
		if err != nil || len(record.RawSample) != 8 || record.RawSample[0] != 7 {
			t.Fatalf("record %x, %v", record.RawSample, err)
		}
	}
}

func TestRingIsEmptyAtTheDeadline(t *testing.T) {
	r, _ := testRing(t)
	for _, deadline := range []time.Time{time.Now().Add(20 * time.Millisecond), time.Now().Add(-time.Hour)} {
		if err := r.Wait(deadline); err != nil || time.Now().Before(deadline) {
			t.Errorf("returned at %v, %v, want %v", time.Now(), err, deadline)
		}
		if n := readAll(t, r); n != 0 {
			t.Errorf("%d records", n)
		}
	}
}

// What is in a ring when the wait begins ends it, however it came there.
func TestRingIsFilledBefore(t *testing.T) {
	r, put := testRing(t)
	for round := range 3 {
		put(false)
		put(round == 1)
		if err := await(t, waits(r)); err != nil {
			t.Error(err)
		}
		if n := readAll(t, r); n != 2 {
			t.Errorf("%d records, want 2", n)
		}
	}
}

// A wake-up is not missed, at whichever moment of a wait it comes.
func TestRingWakes(t *testing.T) {
	r, put := testRing(t)
	for round := range 2000 {
		done := waits(r)
		time.Sleep(time.Duration(round%50) * time.Microsecond)
		put(true)
		if err := await(t, done); err != nil {
			t.Fatal(err)
		}
		if n := readAll(t, r); n != 1 {
			t.Fatalf("%d records, want 1", n)
		}
	}
}

func TestRingCloseTwice(t *testing.T) {
	r, _ := testRing(t)
	for range 2 {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := r.Wait(time.Now().Add(time.Hour)); err == nil {
		t.Error("waits for a ring that is closed")
	}
}
