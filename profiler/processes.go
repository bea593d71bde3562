// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"errors"
	"path"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/fleetprof/fleetprof/internal/procfs"
	"github.com/fleetprof/fleetprof/sample"
)

// process is what is known of one process at the time the table stands at.
type process struct {
	executable string
	// path is that of the executable as the process sees it, empty if unknown.
	path string
	// execution is that of sample.Process.
	execution uint64
	regions   regions
	// shared says that a child or parent has the same regions: they must not be
	// changed in place.
	shared bool
	// parent is the process that this one was forked from, 0 if unknown.
	parent uint32
	// since is when the process was read from /proc: older events are already
	// in what was read. 0 for a process known from events alone.
	since uint64
	// asked is when /proc was last asked.
	asked uint64
	// named says that executable is final; after an exec the first file that is
	// mapped names it (load_elf_binary maps the program before its interpreter).
	// Until then it is what processes.name foresees, else what the process was before.
	named bool
	// exited is when the main thread ended or was last seen running after that,
	// 0 while it lives. Other threads may go on without it.
	exited uint64
	// stale says that events were lost, so that /proc must be asked again.
	stale bool
	// listed is the address space for which the kernel side has regions of this
	// process; zero if it has none. current says that they are these.
	listed  addressSpace
	current bool
	// generated is what processes.generated has found, nil if it was not asked.
	generated *region
	// programmed is the address space for which the kernel side knows who executes.
	programmed addressSpace
}

// keepExited is how long a process stays known after its main thread has ended
// and no thread of it was sampled, in nanoseconds.
const keepExited = 2e9

// refreshEvery bounds how often a process with an address nobody told us of is
// read again, in nanoseconds.
const refreshEvery = 10e9

// processes is the table of living processes. Events and samples are applied
// in the order of their times, so the table always stands at one instant. Not
// safe for concurrent use.
type processes struct {
	proc    procfs.FS
	objects *objects
	now     func() uint64 // CLOCK_MONOTONIC
	byPID   map[uint32]*process
	stats   *stats
	// executions is how many there were.
	executions uint64
	// changed and ended are the processes whose regions the kernel side may have,
	// and must be given anew, or forget. Whoever does so empties them.
	changed, ended []uint32
}

func newProcesses(proc procfs.FS, now func() uint64, stats *stats) *processes {
	return &processes{proc: proc, objects: newObjects(), now: now, byPID: make(map[uint32]*process), stats: stats}
}

// scan reads every process there is.
func (p *processes) scan() error {
	pids, err := p.proc.PIDs()
	if err != nil {
		return err
	}
	for _, pid := range pids {
		if known := p.read(pid); known != nil && len(known.regions) > 0 {
			p.byPID[pid] = known // else a kernel thread, or its main thread has ended
		}
	}
	return nil
}

// read makes a process from /proc, through any of its threads; nil if it has
// gone. One that can be read in part is kept in part.
func (p *processes) read(thread uint32) *process {
	now := p.now()
	file, err := p.proc.ExecutablePath(thread)
	if err != nil {
		return nil
	}
	fresh := &process{
		since: now, asked: now, named: true,
		executable: procfs.ExecutableName(file), path: file, execution: p.nextExecution(),
	}
	var read regions
	err = p.proc.ExecutableMaps(thread, func(m procfs.Mapping) bool {
		read = append(read, p.objects.fromProc(m))
		return len(read) < maxRegions
	})
	if err != nil || len(read) == maxRegions {
		p.stats.mapsErrors.Inc()
	}
	fresh.regions = read
	return fresh
}

func (p *processes) nextExecution() uint64 {
	p.executions++
	return p.executions
}

// apply brings the table to the time of one event.
func (p *processes) apply(e event) {
	if e.kind == eventLost {
		p.stats.lostEvents.Add(float64(e.lost))
		for _, proc := range p.byPID {
			proc.stale = true
		}
		return
	}
	known := p.byPID[e.pid]
	if known != nil && e.time < known.since {
		return
	}
	switch e.kind {
	case eventFork:
		p.fork(e)
	case eventExec:
		fresh := &process{execution: p.nextExecution()}
		if known != nil {
			fresh.executable, fresh.path, fresh.parent = known.executable, known.path, known.parent
		}
		p.byPID[e.pid] = fresh
		p.ended = append(p.ended, e.pid)
	case eventMap:
		if known != nil { // else it is read in full when it is sampled
			p.mapped(known, e.region)
			p.unlist(e.pid, known)
		}
	case eventExit:
		if known != nil {
			known.exited = e.time
		}
	}
}

func (p *processes) fork(e event) {
	parent := p.byPID[e.parent]
	if parent == nil {
		delete(p.byPID, e.pid) // whoever had the number before
		p.ended = append(p.ended, e.pid)
		return
	}
	parent.shared = true
	p.byPID[e.pid] = &process{
		executable: parent.executable, path: parent.path, execution: p.nextExecution(), regions: parent.regions, shared: true,
		parent: e.parent, named: parent.named, stale: parent.stale,
	}
}

// name names the program that a process executes from now on, if it is among the events
// that follow: what is sampled until it is mapped is of this program, no longer of the
// one before.
func (p *processes) name(exec event, following []event) {
	if exec.kind != eventExec {
		return
	}
	for _, e := range following {
		switch {
		case e.pid != exec.pid || e.kind == eventFork:
		case e.kind != eventMap || p.byPID[e.pid].named:
			return
		case p.objects.fromRecord(e.region).object.Kind == sample.File:
			p.byPID[e.pid].executes(e.region.path)
			return // it is final, and its regions known, once it is mapped
		}
	}
}

// executes names a process after the file of its program.
func (proc *process) executes(file string) { proc.executable, proc.path = path.Base(file), file }

func (p *processes) mapped(proc *process, record mapRecord) {
	r := p.objects.fromRecord(record)
	if !proc.named && r.object.Kind == sample.File {
		proc.executes(record.path)
		proc.named = true
	}
	if proc.shared {
		proc.regions, proc.shared = slices.Clone(proc.regions), false
	}
	if isDump(r.object) {
		proc.generated = nil
	}
	var ok bool
	if proc.regions, ok = proc.regions.insert(r); !ok {
		p.stats.mapsErrors.Inc()
	}
}

// unlist says that the kernel side has other regions than the process now has.
func (p *processes) unlist(pid uint32, proc *process) {
	if proc.current {
		proc.current = false
		p.changed = append(p.changed, pid)
	}
}

// forget drops processes that ended some time before now. After a loss of
// events it finds out which ones those are.
func (p *processes) forget(now uint64) {
	for pid, proc := range p.byPID {
		if proc.stale && proc.exited == 0 && p.gone(pid) {
			proc.exited = now
		}
		if proc.exited != 0 && proc.exited+keepExited < now {
			delete(p.byPID, pid)
			p.ended = append(p.ended, pid)
		}
	}
}

func (p *processes) gone(pid uint32) bool {
	return errors.Is(unix.Access(p.proc.Path(pid), unix.F_OK), unix.ENOENT)
}

// lookup finds the process of a tick, from /proc if need be; nil if it is not
// to be known any more.
func (p *processes) lookup(raw *sample.Raw) *process {
	known := p.byPID[raw.PID]
	switch {
	case known == nil:
		known = p.read(raw.TID)
		if known != nil {
			p.byPID[raw.PID] = known
		}
	case known.exited != 0:
		known.exited = max(known.exited, raw.Time) // a thread goes on
	case known.stale:
		p.refresh(known, raw.TID)
	}
	return known
}

// refresh reads a process again, unless it has gone.
func (p *processes) refresh(proc *process, thread uint32) {
	if fresh := p.read(thread); fresh != nil {
		fresh.parent, fresh.exited = proc.parent, proc.exited
		if !proc.stale {
			fresh.execution, fresh.generated = proc.execution, proc.generated // else it may be another one by now
		}
		*proc = *fresh // not listed
	}
}

// region finds the mapping of an address. An address outside of all mappings
// makes the process be read again, at most every refreshEvery. Not so during an
// exec, when the old program is unmapped and the new one not yet mapped: /proc
// tells of a later time, and the address is of the old program.
func (p *processes) region(raw *sample.Raw, proc *process, address uint64) *region {
	if r := proc.regions.find(address); r != nil {
		return r
	}
	if now := p.now(); proc.named && proc.asked+refreshEvery < now {
		proc.asked = now
		p.refresh(proc, raw.TID)
		return proc.regions.find(address)
	}
	return nil
}

// locate turns a stack of addresses into one of objects and offsets. The process
// is that of the tick's time, nil if it is not known.
func (p *processes) locate(raw *sample.Raw, proc *process, hold func(r *region, tasks ...uint32)) *sample.Sample {
	s := &sample.Sample{
		Time:     raw.Time,
		Weight:   raw.Weight,
		Process:  sample.Process{PID: raw.PID},
		TID:      raw.TID,
		Thread:   raw.Comm,
		CgroupID: raw.CgroupID,
		Stack:    make(sample.Stack, 0, len(raw.Kernel)+len(raw.User)+1),
		Executor: raw.Executor,
		Request:  raw.Request, Published: raw.Published,
	}
	for i, address := range raw.Kernel {
		s.Stack = append(s.Stack, sample.Location{Object: kernelObject, Offset: callSite(i, address)})
	}
	if raw.KernelCut {
		s.Stack = append(s.Stack, sample.Location{Object: kernelCutObject})
	}
	if raw.KernelThread {
		return s
	}
	if proc != nil {
		s.Process.Executable, s.Process.Path, s.Process.Execution = proc.executable, proc.path, proc.execution
	}
	for i, address := range raw.User {
		address = callSite(i, address)
		var r *region
		if proc != nil {
			r = p.region(raw, proc, address)
		}
		if r == nil {
			p.stats.unknownAddresses.Inc()
		} else if r.object.Kind == sample.Anonymous {
			r = p.generated(raw, proc)
		}
		if r != nil && (r.object.Kind == sample.File || r.object.Kind == sample.Anonymous) {
			hold(r, raw.TID, proc.parent)
		}
		s.Stack = append(s.Stack, r.location(address))
	}
	if marker := markers[raw.Stop]; marker != nil {
		s.Stack = append(s.Stack, sample.Location{Object: marker})
	}
	return s
}

// callSite turns a return address into one inside the call instruction: the
// instruction behind a call may belong to the next function or line. The
// innermost address is not a return address.
func callSite(depth int, address uint64) uint64 {
	if depth == 0 || address == 0 {
		return address
	}
	return address - 1
}

// location places an address. Memory without a file has no offset that means
// anything elsewhere, so it keeps its address.
func (r *region) location(address uint64) sample.Location {
	if r == nil {
		return sample.Location{Object: unknownObject, Offset: address}
	}
	switch r.object.Kind {
	case sample.File, sample.VDSO:
		return sample.Location{Object: r.object, Offset: address - r.start + r.offset}
	}
	return sample.Location{Object: r.object, Offset: address}
}
