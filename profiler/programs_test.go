// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fleetprof/fleetprof/bpf"
	"github.com/fleetprof/fleetprof/sample"
)

// fakePrograms is the kernel side's table of programs and layouts.
type fakePrograms struct {
	kernelPrograms
	layouts map[uint32]bpf.Layout
	// processes are those that programs can find.
	processes map[uint32]*process
}

func (k *fakePrograms) SetLayout(number uint32, l bpf.Layout) error {
	k.layouts[number] = l
	return nil
}

// probeCount counts probes that are attached.
type probeCount = atomic.Int32

type closeFunc func()

func (f closeFunc) Close() error { f(); return nil }

func newTestPrograms(t *testing.T) (*programs, *fakePrograms, *probeCount) {
	t.Helper()
	k := &fakePrograms{make(kernelPrograms), make(map[uint32]bpf.Layout), make(map[uint32]*process)}
	p := newPrograms(k, func(o *sample.Object) (*image, error) {
		f, err := os.Open(o.Path)
		if err != nil {
			return nil, err
		}
		info, err := f.Stat()
		if err != nil {
			return nil, err
		}
		return &image{f, f, info.Size()}, nil
	}, func(pid uint32) *process { return k.processes[pid] }, slog.New(slog.NewTextHandler(t.Output(), nil)))
	attached := new(probeCount)
	p.probe = func(*os.File, uint64) (io.Closer, error) {
		attached.Add(1)
		return closeFunc(func() { attached.Add(-1) }), nil
	}
	return p, k, attached
}

// running is a process that executes a file.
func running(path, executable string) *process {
	return &process{
		executable: executable, named: true,
		regions: regions{{start: 0x400000, limit: 0x500000, object: &sample.Object{Path: path}}},
	}
}

// settle meets a process until its program has been read.
func (p *programs) settle(t *testing.T, pid uint32, proc *process, space addressSpace) {
	t.Helper()
	wanted := false
	p.meet(pid, proc, space, func(*region) { wanted = true })
	if !wanted {
		t.Fatal("the program was not asked for")
	}
	deadline := time.After(30 * time.Second)
	select {
	case r := <-p.read:
		p.take(r)
	case <-deadline:
		t.Fatal("the program was not read")
	}
	p.meet(pid, proc, space, func(*region) { t.Error("the program was asked for again") })
}

func TestProgramsOfThreadsAndGoroutines(t *testing.T) {
	p, k, attached := newTestPrograms(t)
	p.start(t.Context())
	defer p.close()
	space := addressSpace{1, 1}
	shell := running("/bin/sh", "sh")
	p.settle(t, 10, shell, space)
	if got := k.kernelPrograms[10]; got.Executor != bpf.ExecutorThread || got.Mm != 1 || got.ExecId != 1 {
		t.Errorf("a shell is %+v, want threads", got)
	}
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ours := running(binary, "profiler.test")
	p.settle(t, 11, ours, space)
	got := k.kernelPrograms[11]
	if layout := k.layouts[got.Layout]; got.Executor != bpf.ExecutorGoroutine || layout.Generation != got.Generation || layout.Goid <= 0 {
		t.Errorf("a Go program is %+v with layout %+v", got, layout)
	}
	// The next process that runs it is known at once.
	p.meet(12, &process{executable: ours.executable, named: true, regions: ours.regions}, space, func(*region) {})
	if k.kernelPrograms[12] != got {
		t.Errorf("the second process is %+v, the first %+v", k.kernelPrograms[12], got)
	}
	// A process that runs something else since must be told anew.
	delete(k.kernelPrograms, 11)
	p.meet(11, ours, space, func(*region) {})
	if _, told := k.kernelPrograms[11]; told {
		t.Error("a process was told twice")
	}
	p.meet(11, ours, addressSpace{2, 2}, func(*region) {})
	if k.kernelPrograms[11].Mm != 2 {
		t.Error("a new address space was not told")
	}
	if n := attached.Load(); n != 0 {
		t.Errorf("%d probes in programs that were not seen to serve", n)
	}
}

// A stack that ends in runtime.mcall or runtime.mstart is the scheduler's, whatever the
// runtime's records say at that instant; one that ends elsewhere, or is cut, is not.
func TestProgramsLeaveTheScheduler(t *testing.T) {
	if os.Getenv(readySpin) != "" {
		t.Skip("an emulated machine has no Go, see docs/kernels.md")
	}
	program, err := exec.LookPath("go") // it has symbols, which test binaries have not
	if err != nil {
		t.Fatal(err)
	}
	p, _, _ := newTestPrograms(t)
	p.start(t.Context())
	t.Cleanup(p.close)
	proc := running(program, path.Base(program))
	p.settle(t, 7, proc, addressSpace{mm: 1, execID: 1})
	object := proc.regions[0].object
	for name, scheduler := range map[string]bool{
		"runtime.mcall": true, "runtime.mstart.abi0": true, "runtime.goexit.abi0": false, "runtime.schedule": false,
	} {
		start, end := extent(t, program, name)
		for _, stop := range []sample.Stop{sample.StopEnd, sample.StopCode} {
			s := &sample.Sample{
				Process: sample.Process{PID: 7}, Executor: sample.Executor{Kind: sample.Goroutine, Goroutine: 3},
				Request: sample.Request{Goroutine: 3}, Published: []sample.Attribute{{Key: "k", Value: "v"}},
				Stack: sample.Stack{{Object: object, Offset: 1}, {Object: object, Offset: (start + end) / 2}},
			}
			p.leaves(s, stop)
			left := s.Executor == sample.Executor{Kind: sample.RuntimeExecutor} && s.Request == sample.Request{} && s.Published == nil
			if want := scheduler && stop == sample.StopEnd; left != want {
				t.Errorf("%s, %v: executor is %v, the scheduler's: want %v", name, stop, s.Executor, want)
			}
		}
	}
}

// What a program is becomes known of all that were met meanwhile and still run it, without
// another tick.
func TestProgramsTellThoseThatWait(t *testing.T) {
	p, k, _ := newTestPrograms(t)
	p.start(t.Context())
	defer p.close()
	shell, gone := running("/bin/sh", "sh"), running("/bin/sh", "sh")
	gone.regions = shell.regions
	k.processes = map[uint32]*process{10: shell, 11: running("/bin/true", "true")}
	for range 2 {
		p.meet(10, shell, addressSpace{1, 1}, func(*region) {})
		p.meet(11, gone, addressSpace{2, 1}, func(*region) {})
	}
	select {
	case r := <-p.read:
		p.take(r)
	case <-time.After(30 * time.Second):
		t.Fatal("the program was not read")
	}
	if got := k.kernelPrograms[10]; got.Executor != bpf.ExecutorThread || got.Mm != 1 {
		t.Errorf("the one that waited is %+v", got)
	}
	if got, told := k.kernelPrograms[11]; told {
		t.Errorf("the one that is gone is %+v", got)
	}
}

// A number that another program has taken is given anew.
func TestProgramsShareNumbers(t *testing.T) {
	p, k, _ := newTestPrograms(t)
	first, space := running("/a", "a"), addressSpace{1, 1}
	known := func(proc *process) {
		p.byObject[proc.regions[0].object] = &executable{asked: true, executor: bpf.ExecutorGoroutine, layout: new(bpf.Layout)}
	}
	known(first)
	p.meet(1, first, space, func(*region) {})
	was := k.kernelPrograms[1]
	for i := range bpf.Layouts {
		other := running("/b", "b")
		known(other)
		p.meet(uint32(100+i), other, space, func(*region) {})
	}
	if k.layouts[was.Layout].Generation == was.Generation {
		t.Fatal("the number was not taken")
	}
	p.meet(1, first, space, func(*region) {})
	if now := k.kernelPrograms[1]; k.layouts[now.Layout].Generation != now.Generation || now == was {
		t.Errorf("the first program has %+v, and the layout there is of %d", now, k.layouts[now.Layout].Generation)
	}
}

// Probes come when a program is seen to serve, and stay as long as one process runs it,
// whatever it is asked meanwhile.
func TestProgramsProbesStayWhileUsed(t *testing.T) {
	p, _, attached := newTestPrograms(t)
	p.start(t.Context())
	defer p.close()
	proc, space := running("/bin/sh", "sh"), addressSpace{1, 1}
	none := func(*region) {}
	p.byObject[proc.regions[0].object] = &executable{
		asked: true, executor: bpf.ExecutorGoroutine, layout: new(bpf.Layout), offsets: []uint64{16, 32},
	}
	for range 3 {
		p.meet(1, proc, space, none)
		p.serves(1, proc, none)
		proc.programmed = addressSpace{} // as after a loss of events
	}
	p.take(<-p.read)
	if n := attached.Load(); n != 2 || len(p.read) > 0 {
		t.Fatalf("%d probes, want 2", n)
	}
	p.meet(3, &process{executable: "sh", named: true, regions: proc.regions}, space, none)
	p.ended(1)
	if n := attached.Load(); n != 2 {
		t.Fatal("probes have gone with one of two processes")
	}
	p.ended(3)
	p.ended(3)
	for deadline := time.Now().Add(10 * time.Second); attached.Load() != 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d probes are left", attached.Load())
		}
	}
	p.meet(1, proc, space, none)
	p.serves(1, proc, none)
	p.take(<-p.read)
	if n := attached.Load(); n != 2 {
		t.Errorf("%d probes when it runs again, want 2", n)
	}
	p.close()
	if n := attached.Load(); n != 0 {
		t.Errorf("%d probes are left at the end", n)
	}
}

// A program that ends while it is probed and runs again at once is probed once.
func TestProgramsAreProbedOnce(t *testing.T) {
	p, _, attached := newTestPrograms(t)
	p.start(t.Context())
	defer p.close()
	proc, space := running("/bin/sh", "sh"), addressSpace{1, 1}
	none := func(*region) {}
	p.byObject[proc.regions[0].object] = &executable{
		asked: true, executor: bpf.ExecutorGoroutine, layout: new(bpf.Layout), offsets: []uint64{16},
	}
	for pid := range uint32(2) {
		p.meet(pid, proc, space, none)
		p.serves(pid, proc, none)
		if pid == 0 {
			p.ended(pid)
		}
	}
	p.take(<-p.read)
	p.take(<-p.read)
	if n := attached.Load(); n != 1 {
		t.Errorf("%d probes, want 1", n)
	}
	p.close()
	if n := attached.Load(); n != 0 {
		t.Errorf("%d probes are left at the end", n)
	}
}
