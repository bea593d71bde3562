// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fleetprof/fleetprof/bpf"
	"github.com/fleetprof/fleetprof/internal/procfs"
	"github.com/fleetprof/fleetprof/sample"
)

// newReplay is a profiler without a kernel: what is put into ticks and events
// is replayed into got. There is no /proc behind it.
func newReplay(t *testing.T) (p *Profiler, got *recorder) {
	got = new(recorder)
	st := newStats(prometheus.NewRegistry())
	proc := procfs.New(t.TempDir())
	now := func() uint64 { return 1 }
	p = &Profiler{
		opts: Options{Sink: got, Proc: proc, Registerer: prometheus.NewRegistry()}, stats: st,
		processes: newProcesses(proc, now, st), files: newFiles(proc, st),
		log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
	p.newWalker(&bpf.Memory{
		Words:    make([]uint32, bpf.BlockWords),
		Segments: make([]bpf.Segment, bpf.Segments),
		Mappings: make([]bpf.Mapping, bpf.Lists*bpf.ListLength),
	}, make(kernelProcesses))
	p.programs = newPrograms(make(kernelPrograms), images(p.files, proc), func(uint32) *process { return nil }, p.log)
	p.selection = newSelection(make(kernelWeights), Rates{}, p.log, prometheus.NewRegistry())
	p.contexts = newContexts(fakeContexts{}, proc, p.log, prometheus.NewRegistry())
	return p, got
}

// kernelPrograms is the kernel side's table of what processes run.
type kernelPrograms map[uint32]bpf.Program

func (k kernelPrograms) SetProgram(pid uint32, p bpf.Program) error {
	k[pid] = p
	return nil
}

func (k kernelPrograms) DeleteProgram(pid uint32) error {
	delete(k, pid)
	return nil
}

func (k kernelPrograms) SetLayout(uint32, bpf.Layout) error { return nil }

// kernelProcesses is the kernel side's table of processes.
type kernelProcesses map[uint32]bpf.Process

func (k kernelProcesses) SetProcess(pid uint32, p bpf.Process) error {
	k[pid] = p
	return nil
}

func (k kernelProcesses) DeleteProcess(pid uint32) error {
	delete(k, pid)
	return nil
}

type recorder struct {
	samples        []*sample.Sample
	lost           uint64
	lostCPU        time.Duration
	activities     []sample.Activity
	lostActivities uint64
}

func (r *recorder) Sample(s *sample.Sample) { r.samples = append(r.samples, s) }
func (r *recorder) Lost(n uint64, cpu time.Duration) {
	r.lost += n
	r.lostCPU += cpu
}
func (r *recorder) LostActivities(n uint64) { r.lostActivities += n }
func (r *recorder) Exited(uint32)           {}
func (r *recorder) Activity(a *sample.Activity) {
	kept := *a
	kept.Data = slices.Clone(a.Data)
	r.activities = append(r.activities, kept)
}

func mapped(time uint64, pid uint32, path string) event {
	return event{kind: eventMap, time: time, pid: pid,
		region: mapRecord{start: 0x1000, length: 0x1000, path: path, inode: 1}}
}

func tickAt(time uint64, pid uint32) tick {
	return tick{Raw: sample.Raw{Time: time, PID: pid, User: []uint64{0x1800}, Stop: sample.StopEnd}}
}

// Ticks and events arrive in two heaps and out of order; each tick must meet
// the program that ran at its time, although the process has ended since.
func TestReplayMeetsTheProgramOfTheMoment(t *testing.T) {
	p, got := newReplay(t)
	p.events = []event{
		{kind: eventExit, time: 90, pid: 1},
		{kind: eventExec, time: 50, pid: 1},
		mapped(51, 1, "/bin/second"),
		{kind: eventExec, time: 10, pid: 1},
		mapped(11, 1, "/bin/first"),
		mapped(12, 1, "/lib/over-it"), // replaces the same range
		{kind: eventFork, time: 20, pid: 2, parent: 1},
		mapped(21, 2, "/lib/child"),
	}
	p.ticks = []tick{tickAt(91, 1), tickAt(60, 1), tickAt(11, 1), tickAt(49, 1), tickAt(22, 2), tickAt(200, 1)}
	p.replay(100)

	type seen struct {
		time               uint64
		executable, object string
	}
	want := []seen{
		{11, "first", "/bin/first"},
		{22, "first", "/lib/child"},
		{49, "first", "/lib/over-it"},
		{60, "second", "/bin/second"},
		{91, "second", "/bin/second"},
	}
	if len(got.samples) != len(want) {
		t.Fatalf("%d samples, want %d: the one beyond the horizon must wait", len(got.samples), len(want))
	}
	for i, s := range got.samples {
		is := seen{s.Time, s.Process.Executable, s.Stack[0].Object.Path}
		if is != want[i] {
			t.Errorf("sample %d: %v, want %v", i, is, want[i])
		}
	}
	p.replay(^uint64(0))
	if n := len(got.samples); n != len(want)+1 {
		t.Errorf("%d samples after the last replay, want %d", n, len(want)+1)
	}
}

// A process is told from its parent, from what it was before it executed a program, and
// from others of its number; and its program by the whole path.
func TestSamplesTellExecutionsApart(t *testing.T) {
	p, got := newReplay(t)
	p.events = []event{
		{kind: eventExec, time: 10, pid: 1}, mapped(11, 1, "/bin/first"),
		{kind: eventFork, time: 20, pid: 2, parent: 1},
		{kind: eventExec, time: 30, pid: 2}, {kind: eventFork, time: 30, pid: 3, parent: 2},
		mapped(30, 4, "/bin/other"), mapped(32, 2, "/srv/second"),
		{kind: eventExit, time: 40, pid: 2},
		{kind: eventFork, time: 50, pid: 2, parent: 1},
	}
	p.ticks = []tick{tickAt(12, 1), tickAt(25, 2), tickAt(31, 2), tickAt(55, 2)}
	p.replay(100)
	seen := make(map[uint64]bool)
	for i, want := range []string{"/bin/first", "/bin/first", "/srv/second", "/bin/first"} {
		s := got.samples[i].Process
		if s.Path != want || s.Execution == 0 || seen[s.Execution] {
			t.Errorf("sample %d: %+v after %v, want %s and another execution", i, s, seen, want)
		}
		seen[s.Execution] = true
	}
}

func TestUnknownProcessIsNotThrownAway(t *testing.T) {
	p, got := newReplay(t)
	p.ticks = []tick{tickAt(5, 77)}
	p.replay(10)
	if len(got.samples) != 1 || got.samples[0].Stack[0].Object.Kind != sample.Unknown {
		t.Errorf("got %+v, want one sample with an unknown frame", got.samples)
	}
}

func TestStackOfBothSidesWithReturnAddressesAndMarker(t *testing.T) {
	p, got := newReplay(t)
	p.events = []event{{kind: eventExec, time: 1, pid: 1}, mapped(2, 1, "/bin/program")}
	p.ticks = []tick{{Raw: sample.Raw{
		Time: 5, PID: 1, TID: 9, Comm: "worker",
		Kernel: []uint64{0xffffffff81000010, 0xffffffff81000020},
		User:   []uint64{0x1800, 0x1900}, Stop: sample.StopFault,
	}}}
	p.replay(10)
	s := got.samples[0]
	program := s.Stack[2].Object
	want := sample.Stack{
		{Object: kernelObject, Offset: 0xffffffff81000010},
		{Object: kernelObject, Offset: 0xffffffff8100001f},
		{Object: program, Offset: 0x800},
		{Object: program, Offset: 0x8ff},
		{Object: markers[sample.StopFault]},
	}
	if len(s.Stack) != len(want) {
		t.Fatalf("stack %v", s.Stack)
	}
	for i := range want {
		if s.Stack[i] != want[i] {
			t.Errorf("frame %d: %+v, want %+v", i, s.Stack[i], want[i])
		}
	}
	if s.Thread != "worker" || s.TID != 9 || program.Path != "/bin/program" {
		t.Errorf("sample %+v", s)
	}
}

// A tick in the middle of an exec has the registers of the old program. By the
// time it is replayed the new one runs, which has other code at that address.
func TestExecUnderWayIsNotReadFromTheFuture(t *testing.T) {
	p, got := newReplay(t)
	later := t.TempDir()
	if err := os.Mkdir(filepath.Join(later, "1"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/bin/later", filepath.Join(later, "1", "exe")); err != nil {
		t.Fatal(err)
	}
	maps := "1000-2000 r-xp 00000000 00:01 1 /bin/later\n"
	if err := os.WriteFile(filepath.Join(later, "1", "maps"), []byte(maps), 0o644); err != nil {
		t.Fatal(err)
	}
	p.processes.proc = procfs.New(later)
	p.processes.now = func() uint64 { return 2 * refreshEvery }

	p.events = []event{{kind: eventExec, time: 1, pid: 1}, mapped(9, 1, "/bin/first")}
	p.ticks = []tick{tickAt(5, 1), tickAt(10, 1)}
	p.replay(10)
	if s := got.samples[0]; s.Process.Executable != "first" || s.Stack[0].Object.Kind != sample.Unknown {
		t.Errorf("before the first mapping: %q, %s", s.Process.Executable, s.Stack[0].Object.Path)
	}
	if s := got.samples[1]; s.Process.Executable != "first" || s.Stack[0].Object.Path != "/bin/first" {
		t.Errorf("after it: %q, %s", s.Process.Executable, s.Stack[0].Object.Path)
	}
}

func TestReusedPIDForgetsTheOldProgram(t *testing.T) {
	p, got := newReplay(t)
	p.events = []event{
		{kind: eventExec, time: 1, pid: 1}, mapped(2, 1, "/bin/old"),
		{kind: eventExit, time: 3, pid: 1},
		{kind: eventFork, time: 4, pid: 1, parent: 500}, // a parent never seen
	}
	p.ticks = []tick{tickAt(5, 1)}
	p.replay(10)
	if s := got.samples[0]; s.Process.Executable != "" || s.Stack[0].Object.Kind != sample.Unknown {
		t.Errorf("a new process under an old number got %q, %s", s.Process.Executable, s.Stack[0].Object.Path)
	}
}

func TestEndedProcessesAreForgotten(t *testing.T) {
	p, _ := newReplay(t)
	p.events = []event{{kind: eventExec, time: 1, pid: 1}, {kind: eventExec, time: 1, pid: 2}, {kind: eventExit, time: 5, pid: 1}}
	p.replay(10)
	p.processes.forget(5 + keepExited)
	if len(p.processes.byPID) != 2 {
		t.Error("forgotten too early")
	}
	p.processes.forget(6 + keepExited)
	if len(p.processes.byPID) != 1 || p.processes.byPID[2] == nil {
		t.Errorf("known processes: %v", p.processes.byPID)
	}
}

// A program may end its main thread and go on with others.
func TestAProcessWhoseMainThreadEndedGoesOn(t *testing.T) {
	p, got := newReplay(t)
	p.events = []event{{kind: eventExec, time: 1, pid: 1}, mapped(2, 1, "/bin/program"), {kind: eventExit, time: 3, pid: 1}}
	for time := uint64(4); time < 5*keepExited; time += keepExited / 2 {
		p.ticks = []tick{tickAt(time, 1)}
		p.replay(time)
		p.processes.forget(time)
	}
	for i, s := range got.samples {
		if s.Process.Executable != "program" || s.Stack[0].Object.Path != "/bin/program" {
			t.Fatalf("sample %d: %q, %s", i, s.Process.Executable, s.Stack[0].Object.Path)
		}
	}
	p.processes.forget(10 * keepExited)
	if len(p.processes.byPID) != 0 {
		t.Error("not forgotten after its last thread")
	}
}

// An address outside of all mappings, such as a register that is no frame
// pointer gives, makes us ask /proc for a process that has gone already.
func TestAProcessThatCannotBeReadAgainStillEnds(t *testing.T) {
	p, _ := newReplay(t)
	p.processes.now = func() uint64 { return 100 * refreshEvery }
	p.events = []event{{kind: eventExec, time: 1, pid: 1}, mapped(2, 1, "/bin/program"), {kind: eventExit, time: 9, pid: 1}}
	wild := tickAt(5, 1)
	wild.User[0] = 0xdead0000
	p.ticks = []tick{wild}
	p.replay(10)
	p.processes.forget(9 + 2*keepExited)
	if len(p.processes.byPID) != 0 {
		t.Error("the end of the process went unnoticed")
	}
}

// With an executable stack the first mapping of a program is not its file.
func TestTheFirstFileNamesTheProgram(t *testing.T) {
	p, got := newReplay(t)
	stack := mapped(2, 1, "//anon")
	stack.region.start, stack.region.inode = 0x9000, 0
	p.events = []event{{kind: eventExec, time: 1, pid: 1}, stack, mapped(3, 1, "/bin/program"), mapped(4, 1, "/lib/ld.so")}
	p.ticks = []tick{tickAt(5, 1)}
	p.replay(10)
	if name := got.samples[0].Process.Executable; name != "program" {
		t.Errorf("executable %q, want program", name)
	}
}

// When the exits of processes were lost, they are found missing.
func TestLostExitsAreMadeUpFor(t *testing.T) {
	p, _ := newReplay(t)
	p.events = []event{{kind: eventExec, time: 1, pid: 1}, {kind: eventLost, time: 5, lost: 1}}
	p.replay(10)
	p.processes.forget(20)
	p.processes.forget(20 + 2*keepExited)
	if len(p.processes.byPID) != 0 {
		t.Error("a process whose end was lost stays for ever")
	}
}
