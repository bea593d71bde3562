// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"context"
	"debug/elf"
	"errors"
	"io"
	"log/slog"
	"os"
	"path"
	"sync"

	"github.com/fleetprof/fleetprof/bpf"
	"github.com/fleetprof/fleetprof/internal/gopclntab"
	"github.com/fleetprof/fleetprof/internal/objfile"
	"github.com/fleetprof/fleetprof/profiler/goruntime"
	"github.com/fleetprof/fleetprof/sample"
)

// programs tells the kernel side who executes in each process that is sampled:
// its threads, or goroutines on them. A program is read once, beside the sampling.
// Not safe for concurrent use.
type programs struct {
	kernel programMap
	open   func(*sample.Object) (*image, error)
	// probe attaches a probe at an offset in a file; nil if nobody asks for requests.
	probe func(file *os.File, offset uint64) (io.Closer, error)
	// process finds one by its number, nil if it is not known.
	process func(pid uint32) *process
	log     *slog.Logger

	byObject map[*sample.Object]*executable
	byPID    map[uint32]*executable
	numbers  [bpf.Layouts]*executable // whose layout it is
	next     int                      // of the numbers
	count    uint32                   // of layouts, ever

	beside[*readProgram]
}

// programMap is the kernel side of it.
type programMap interface {
	SetProgram(pid uint32, p bpf.Program) error
	DeleteProgram(pid uint32) error
	SetLayout(number uint32, l bpf.Layout) error
}

// executable is what is known of a program.
type executable struct {
	asked    bool
	reading  bool
	executor uint32
	// waiting are the processes met since it was asked for.
	waiting map[uint32]waitingProcess
	// of a Go program
	layout     *bpf.Layout
	number     uint32
	generation uint32
	placed     bool
	segments   []objfile.Segment
	// scheduler is the code at which stacks of the scheduler end, as offsets in the file.
	scheduler []goruntime.Code
	// offsets is where probes go into the file, once a process was seen to serve
	// requests; probing says that they are wanted, or there.
	offsets []uint64
	probing bool
	probes  []io.Closer
	// users is how many processes the kernel side knows to run it.
	users int
}

// waitingProcess is a process of which the kernel side is told once its program is read.
type waitingProcess struct {
	proc  *process
	space addressSpace
}

// readProgram is a program to be read, or probed if attach is set, and what came of it.
type readProgram struct {
	object *sample.Object
	attach bool
	executable
	err error
}

const (
	// maxPrograms bounds the programs remembered that nobody runs.
	maxPrograms = 4096
	// maxWaiting bounds the processes that wait for one program to be read.
	maxWaiting = 256
)

func newPrograms(
	kernel programMap, open func(*sample.Object) (*image, error), process func(pid uint32) *process, log *slog.Logger,
) *programs {
	p := &programs{
		kernel: kernel, open: open, process: process, log: log,
		byObject: make(map[*sample.Object]*executable),
		byPID:    make(map[uint32]*executable),
	}
	p.init()
	return p
}

// start starts reading; close or the end of ctx ends it.
func (p *programs) start(ctx context.Context) {
	p.beside.start(ctx, func(ctx context.Context, r *readProgram) {
		if r.attach {
			r.err = p.attach(r)
		} else {
			r.err = p.fill(ctx, r)
		}
	}, func(r *readProgram) { r.unprobe() })
}

// close takes out all probes, side by side: the kernel waits for each. It is idempotent.
func (p *programs) close() {
	p.stop()
	p.poll()
	var closing sync.WaitGroup
	for _, e := range p.byObject {
		closing.Go(e.unprobe)
	}
	closing.Wait()
}

// fill reads the program.
func (p *programs) fill(ctx context.Context, r *readProgram) error {
	file, err := p.open(r.object)
	if err != nil {
		return errors.Join(errNotOpened, err)
	}
	defer file.Close()
	f, err := objfile.Open(until{ctx, file}, file.size)
	if err != nil {
		return err
	}
	layout, err := goruntime.Read(f)
	if errors.Is(err, goruntime.ErrNotGo) {
		if _, older := gopclntab.Section(f); older {
			return err
		}
		r.executor = bpf.ExecutorThread
		return nil
	}
	if err != nil {
		return err
	}
	r.executor = bpf.ExecutorGoroutine
	r.segments = f.Segments
	r.layout = layoutOf(layout)
	r.offsets = probeOffsets(f.Segments, layout.Served)
	r.scheduler = codeOffsets(f.Segments, layout.Scheduler)
	return nil
}

// codeOffsets moves code from addresses as linked to offsets in the file.
func codeOffsets(segments []objfile.Segment, all []goruntime.Code) (offsets []goruntime.Code) {
	for _, c := range all {
		if start, ok := codeOffset(segments, c.Start); ok {
			offsets = append(offsets, goruntime.Code{Start: start, End: start + c.End - c.Start})
		}
	}
	return offsets
}

// codeOffset is where the code of an address as linked stands in the file.
func codeOffset(segments []objfile.Segment, address uint64) (offset uint64, ok bool) {
	for _, s := range segments {
		if s.Flags&elf.PF_X != 0 && address >= s.Address && address-s.Address < s.FileSize {
			return address - s.Address + s.Offset, true
		}
	}
	return 0, false
}

// probeOffsets lists where the goroutines begin that serve one request each. Those that
// serve a connection are known when they read from it.
func probeOffsets(segments []objfile.Segment, all []goruntime.Served) (offsets []uint64) {
	for _, s := range all {
		if s.Kind == goruntime.HTTP1 || s.Probe == 0 {
			continue
		}
		if offset, ok := codeOffset(segments, s.Probe); ok {
			offsets = append(offsets, offset)
		}
	}
	return offsets
}

// attach places the probes of a program.
func (p *programs) attach(r *readProgram) error {
	file, err := p.open(r.object)
	if err != nil {
		return errors.Join(errNotOpened, err)
	}
	defer file.Close()
	stored, ok := file.ReaderAt.(*os.File)
	if !ok {
		return errNotOpened
	}
	for _, offset := range r.offsets {
		probe, err := p.probe(stored, offset)
		if err != nil {
			r.unprobe()
			return err
		}
		r.probes = append(r.probes, probe)
	}
	return nil
}

// serves takes that a process serves requests: the program that it runs is probed, if
// anything in it is to be. want is called for it to be opened.
func (p *programs) serves(pid uint32, proc *process, want func(*region)) {
	e, r := p.byPID[pid], proc.program()
	if p.probe == nil || e == nil || e.probing || len(e.offsets) == 0 || r == nil {
		return
	}
	want(r)
	e.probing = p.ask(&readProgram{object: r.object, attach: true, executable: executable{offsets: e.offsets}})
}

// poll takes what has been read.
func (p *programs) poll() { p.beside.poll(p.take) }

func (p *programs) take(r *readProgram) {
	e := p.byObject[r.object]
	switch {
	case e == nil:
		r.unprobe()
		return
	case r.err != nil && r.attach:
		e.probing = !errors.Is(r.err, errNotOpened) // else the next sample may do
	case r.attach && e.users == 0:
		r.unprobe()
		e.probing = false
	case r.attach && e.probes != nil:
		r.unprobe() // asked for twice: its last process ended in between
	case r.attach:
		e.probes = r.probes
	case errors.Is(r.err, errNotOpened):
		e.asked, e.reading = false, false // the next process that runs it may be alive
		return
	default:
		waiting := e.waiting
		r.asked, r.users = true, e.users
		*e = r.executable
		for pid, w := range waiting {
			if p.process(pid) == w.proc {
				p.meet(pid, w.proc, w.space, func(*region) {}) // it is open
			}
		}
	}
	if r.err != nil {
		p.log.Debug("executors of a program are not known in full", "path", r.object.Path, "error", r.err)
	}
}

// unprobe takes the probes out of a program.
func (e *executable) unprobe() {
	for _, probe := range e.probes {
		probe.Close() // nothing can be done about an error
	}
	e.probes, e.probing = nil, false
}

// program is the mapping of the program that a process runs, nil if it is not known.
func (proc *process) program() *region {
	for i := range proc.regions {
		r := &proc.regions[i]
		if r.object.Kind == sample.File && path.Base(r.object.Path) == proc.executable {
			return r
		}
	}
	return nil
}

// meet sees to it that the kernel side knows what a process runs. want is called for
// a program to be opened.
func (p *programs) meet(pid uint32, proc *process, space addressSpace, want func(*region)) {
	if e := p.byPID[pid]; e != nil && proc.programmed == space && p.inPlace(e) {
		return
	}
	r := proc.program()
	if r == nil {
		return
	}
	e := p.byObject[r.object]
	if e == nil {
		if len(p.byObject) >= maxPrograms {
			p.forgetUnused()
		}
		e = new(executable)
		p.byObject[r.object] = e
	}
	if !e.asked {
		want(r)
		e.asked = p.ask(&readProgram{object: r.object})
		e.reading = e.asked
	}
	if e.reading {
		e.wait(pid, waitingProcess{proc, space})
		return
	}
	if e.executor == bpf.ExecutorUnknown || p.place(e) != nil {
		return
	}
	err := p.kernel.SetProgram(pid, bpf.Program{
		Mm: space.mm, ExecId: space.execID, Executor: e.executor,
		Layout: e.number, Generation: e.generation, Bias: e.bias(r),
	})
	if err == nil {
		proc.programmed = space
		p.use(pid, e)
	}
}

// wait takes that a process runs a program that is not read.
func (e *executable) wait(pid uint32, w waitingProcess) {
	if e.waiting == nil {
		e.waiting = make(map[uint32]waitingProcess)
	}
	if len(e.waiting) < maxWaiting { // others come with their next tick
		e.waiting[pid] = w
	}
}

// use takes that a process runs a program.
func (p *programs) use(pid uint32, e *executable) {
	if p.byPID[pid] == e {
		return
	}
	p.leave(pid)
	p.byPID[pid] = e
	e.users++
}

// executor is of what kind those are that execute in a process, if not the runtime.
func (p *programs) executor(pid uint32) uint32 {
	if e := p.byPID[pid]; e != nil {
		return e.executor
	}
	return bpf.ExecutorUnknown
}

// leaves takes the goroutine from a sample whose stack ends in the scheduler: that has just
// left it or is about to execute it, and the records that say who executes are changed
// while it is at that.
func (p *programs) leaves(s *sample.Sample, stop sample.Stop) {
	if s.Executor.Kind != sample.Goroutine || stop != sample.StopEnd || len(s.Stack) == 0 {
		return
	}
	outermost := s.Stack[len(s.Stack)-1]
	e := p.byPID[s.Process.PID]
	if e == nil || p.byObject[outermost.Object] != e {
		return
	}
	for _, c := range e.scheduler {
		if outermost.Offset >= c.Start && outermost.Offset < c.End {
			s.Executor, s.Request, s.Published = sample.Executor{Kind: sample.RuntimeExecutor}, sample.Request{}, nil
		}
	}
}

// inPlace tells whether the kernel side still has the layout of a program.
func (p *programs) inPlace(e *executable) bool {
	return e.layout == nil || e.placed && p.numbers[e.number] == e
}

// forgetUnused drops the programs that no process is known to run.
func (p *programs) forgetUnused() {
	for o, e := range p.byObject {
		if e.users == 0 {
			e.unprobe()
			delete(p.byObject, o)
		}
	}
}

// leave takes that a process no longer runs its program. The probes of one that nobody
// runs are taken out.
func (p *programs) leave(pid uint32) {
	e := p.byPID[pid]
	if e == nil {
		return
	}
	delete(p.byPID, pid)
	if e.users--; e.users == 0 {
		go (&executable{probes: e.probes}).unprobe() // the kernel takes its time
		e.probes, e.probing = nil, false
	}
}

// place gives the layout of a program a number, which may take it from another one.
func (p *programs) place(e *executable) error {
	if p.inPlace(e) {
		return nil
	}
	number := p.next
	p.next = (p.next + 1) % len(p.numbers)
	p.count++
	layout := *e.layout
	layout.Generation = p.count
	if err := p.kernel.SetLayout(uint32(number), layout); err != nil {
		return err
	}
	p.numbers[number] = e
	e.number, e.generation, e.placed = uint32(number), p.count, true
	return nil
}

// ended forgets a process.
func (p *programs) ended(pid uint32) {
	if p.byPID[pid] == nil {
		return // the kernel side was told nothing
	}
	p.leave(pid)
	if err := p.kernel.DeleteProgram(pid); err != nil {
		p.log.Debug("process not forgotten", "pid", pid, "error", err)
	}
}

// bias is what to add to an address as linked to get that in the process.
func (e *executable) bias(r *region) uint64 {
	for _, s := range e.segments {
		if s.Flags&elf.PF_X != 0 && r.offset < s.Offset+s.FileSize && r.offset+r.limit-r.start > s.Offset {
			return r.start - (s.Address + r.offset - s.Offset)
		}
	}
	return 0
}
