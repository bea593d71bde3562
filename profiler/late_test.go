// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"github.com/fleetprof/fleetprof/bpf"
	"github.com/fleetprof/fleetprof/profiler/unwind"
	"github.com/fleetprof/fleetprof/sample"
)

// stackPointer is a register by its DWARF number.
var stackPointer = map[string]int{"amd64": 7, "arm64": 31}[runtime.GOARCH]

// pageOf is a table of one page of text at 0 where one rule holds.
func pageOf(r unwind.Rule) *unwind.Table {
	return &unwind.Table{
		Machine: machine(),
		Regions: []unwind.Region{{Start: 0, Limit: 256, Index: []uint32{1 << 26}}},
		Rows:    []uint32{1 << 8},
		Rules:   []unwind.Rule{{}, r},
	}
}

// lateWorld is a process with two objects: code at 0x1000 and 0x2000, and a
// stack at 0x7000 by which the first was called from the second.
type lateWorld struct {
	walker  *walker
	process *process
	tables  map[*sample.Object]*unwind.Table
	wanted  []*sample.Object
	inner   *sample.Object
	outer   *sample.Object
}

func newLateWorld(t *testing.T) *lateWorld {
	p, _ := newReplay(t)
	w := &lateWorld{
		inner: &sample.Object{Path: "/inner"}, outer: &sample.Object{Path: "/outer"},
		tables: make(map[*sample.Object]*unwind.Table),
	}
	w.process = &process{regions: regions{{0x1000, 0x1100, 0, w.inner}, {0x2000, 0x2100, 0, w.outer}}}
	w.walker = &walker{
		region: p.processes.region,
		lookup: func(o *sample.Object, offset uint64) (*unwind.Table, uint64, uint32) {
			if table, known := w.tables[o]; !known {
				return nil, 0, bpf.SegmentAbsent
			} else if table != nil {
				return table, offset, bpf.SegmentReady
			}
			return nil, 0, bpf.SegmentNone
		},
		want: func(r *region, _ *tick, _ *process) { w.wanted = append(w.wanted, r.object) },
	}
	return w
}

// tick is a late one in the inner object, whose stack says ra.
func (w *lateWorld) tick(t *testing.T, ra uint64) tick {
	late := &lateStack{memory: unwind.Memory{Start: 0x7000, Bytes: encode(t, ra, uint64(0))}}
	late.registers.IP = 0x1010
	late.registers.R[stackPointer] = 0x7000
	return tick{Raw: sample.Raw{Time: 1, PID: 1}, late: late}
}

// callee has its return address at the stack pointer.
var callee = unwind.Rule{Kind: unwind.Offset, CFA: 8, RA: unwind.AtCFA, RAOffset: -1}

func TestLateStackWaitsForItsTables(t *testing.T) {
	w := newLateWorld(t)
	late := w.tick(t, 0x2020)
	if w.walker.walk(&late, w.process) || !w.walker.park(late, w.process) {
		t.Fatal("the stack does not wait for a table that is not there")
	}
	var got []tick
	retry := func(now uint64) {
		w.walker.retry(now, func(t *tick, _ *process) { got = append(got, *t) })
	}
	retry(2)
	w.tables[w.inner] = pageOf(callee)
	retry(3)
	// Meanwhile the process has other mappings; the stack is of before.
	w.process.regions = nil
	w.tables[w.outer] = pageOf(unwind.Rule{Kind: unwind.End})
	if len(got) != 0 {
		t.Fatalf("handed on before all tables were there: %+v", got)
	}
	retry(4)
	if len(got) != 1 || got[0].Stop != sample.StopEnd || !slices.Equal(got[0].User, []uint64{0x1010, 0x2020}) {
		t.Errorf("got %+v", got)
	}
	if want := []*sample.Object{w.inner, w.inner, w.outer}; !slices.Equal(w.wanted, want) {
		t.Errorf("wanted %v, want %v", w.wanted, want)
	}
	if w.walker.bytes != 0 || len(w.walker.waiting) != 0 {
		t.Errorf("%d bytes of %d stacks still wait", w.walker.bytes, len(w.walker.waiting))
	}
}

func TestLateStackWaitsNotForEver(t *testing.T) {
	w := newLateWorld(t)
	late := w.tick(t, 0x2020)
	w.walker.walk(&late, w.process)
	w.walker.park(late, w.process)
	var got []tick
	w.walker.retry(late.Time+lateFor, func(t *tick, _ *process) { got = append(got, *t) })
	if len(got) != 1 || got[0].Stop != sample.StopLate || !slices.Equal(got[0].User, []uint64{0x1010}) {
		t.Errorf("got %+v, want the innermost frame and why there are no more", got)
	}
}

func TestLateStacksAreBounded(t *testing.T) {
	w := newLateWorld(t)
	late := w.tick(t, 0x2020)
	random := make([]byte, maxLateBytes/4) // cannot be packed
	rand.NewChaCha8([32]byte{}).Read(random)
	for i := range 4 {
		late.late.memory.Bytes = random
		if parked, want := w.walker.park(late, w.process), i < 3; parked != want {
			t.Errorf("stack %d waits: %v", i, parked)
		}
	}
}

func TestLateStackAgainstItsMappings(t *testing.T) {
	for name, c := range map[string]struct {
		ra   uint64
		user []uint64
		stop sample.Stop
	}{
		"called by nobody":    {0, []uint64{0x1010}, sample.StopCode},
		"called from no code": {0x9999, []uint64{0x1010}, sample.StopCode},
		"caller has no table": {0x2020, []uint64{0x1010, 0x2020}, sample.StopFramePointer}, // fp is 0
		"recursion":           {0x1020, []uint64{0x1010, 0x1020}, sample.StopCode},
		"copy ends too early": {0x1020, []uint64{0x1010}, sample.StopFault},
	} {
		w := newLateWorld(t)
		w.tables[w.inner], w.tables[w.outer] = pageOf(callee), nil
		late := w.tick(t, c.ra)
		if c.stop == sample.StopFault {
			late.late.memory.Bytes = nil
		}
		if !w.walker.walk(&late, w.process) || late.Stop != c.stop || !slices.Equal(late.User, c.user) {
			t.Errorf("%s: %#x, %v; want %#x, %v", name, late.User, late.Stop, c.user, c.stop)
		}
	}
}

// A process that executes a program and is sampled before the next look is known
// to the kernel side from then on, by its new address space.
func TestProgramIsListedWithItsFirstTick(t *testing.T) {
	p, _ := newReplay(t)
	kernel := p.lists.kernel.(kernelProcesses)
	w := newLateWorld(t)
	for exec := uint64(1); exec <= 2; exec++ {
		late := w.tick(t, 0)
		late.Time, late.space = 10*exec+5, addressSpace{mm: 7, execID: exec}
		p.events = []event{{kind: eventExec, time: 10 * exec, pid: 1}, mapped(10*exec+1, 1, "/bin/program")}
		p.ticks = []tick{late}
		p.replay(10*exec + 9)
		p.keepTables()
		if got := kernel[1]; got.Mm != 7 || got.ExecId != exec || got.Count != 1 {
			t.Errorf("after execution %d the kernel side has %+v", exec, got)
		}
	}
	p.events = []event{{kind: eventFork, time: 30, pid: 1, parent: 99}}
	p.replay(30)
	if _, known := kernel[1]; known {
		t.Error("the kernel side knows a process by another one's number")
	}
}
