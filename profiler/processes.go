// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"path"

	"github.com/fleetprof/fleetprof/internal/procfs"
	"github.com/fleetprof/fleetprof/sample"
)

// process is what is known of one process at the time the table stands at.
type process struct {
	executable string
	regions    regions
	// since is when the process was read from /proc: older events are already
	// in what was read. 0 for a process known from events alone.
	since uint64
	// named says that executable is final; after an exec the first mapping
	// names it (load_elf_binary maps the program before its interpreter).
	named bool
	// exited is when its last event came, 0 while it lives.
	exited uint64
	// stale says that events were lost, so that /proc must be asked again.
	stale bool
}

// keepExited is how long an ended process stays known, in nanoseconds: its
// last ticks may fall after the exit event, when its name is still wanted.
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
		p.read(pid)
	}
	return nil
}

// read makes a process from /proc. A process that has gone leaves no trace;
// one that can be read in part is kept in part.
func (p *processes) read(pid uint32) *process {
	fresh := &process{since: p.now(), named: true}
	executable, err := p.proc.Executable(pid)
	if err != nil {
		return nil
	}
	fresh.executable = executable
	var read []region
	err = p.proc.ExecutableMaps(pid, func(m procfs.Mapping) bool {
		read = append(read, p.objects.fromProc(m))
		return len(read) < maxRegions
	})
	if err != nil {
		p.stats.mapsErrors.Inc()
	}
	fresh.regions = read
	p.byPID[pid] = fresh
	return fresh
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
		if parent := p.byPID[e.parent]; parent != nil {
			p.byPID[e.pid] = &process{
				executable: parent.executable, regions: parent.regions,
				named: parent.named, stale: parent.stale,
			}
		} else {
			delete(p.byPID, e.pid) // whoever had the number before
		}
	case eventExec:
		p.byPID[e.pid] = new(process)
	case eventMap:
		if known == nil {
			return // read in full when it is sampled
		}
		r := p.objects.fromRecord(e.region)
		if !known.named {
			known.executable, known.named = path.Base(e.region.path), true
		}
		known.regions = known.regions.with(r)
	case eventExit:
		if known != nil {
			known.exited = e.time
		}
	}
}

// forget drops processes that ended before the time given.
func (p *processes) forget(now uint64) {
	for pid, proc := range p.byPID {
		if proc.exited != 0 && proc.exited+keepExited < now {
			delete(p.byPID, pid)
		}
	}
}

// lookup finds the process of a sample, from /proc if need be; nil if it is
// not to be known any more.
func (p *processes) lookup(pid uint32) *process {
	known := p.byPID[pid]
	if known != nil && (!known.stale || known.exited != 0) {
		return known
	}
	if fresh := p.read(pid); fresh != nil {
		return fresh
	}
	return known
}

// region finds the mapping of an address. An address outside of all mappings
// makes the process be read again, at most every refreshEvery.
func (p *processes) region(pid uint32, proc *process, address uint64) *region {
	if r := proc.regions.find(address); r != nil {
		return r
	}
	if now := p.now(); proc.exited == 0 && proc.since+refreshEvery < now {
		proc.since = now
		if fresh := p.read(pid); fresh != nil {
			*proc = *fresh
			p.byPID[pid] = proc
			return proc.regions.find(address)
		}
	}
	return nil
}

// locate turns a stack of addresses into one of objects and offsets.
func (p *processes) locate(raw *sample.Raw, hold func(pid uint32, r *region)) *sample.Sample {
	s := &sample.Sample{
		Time:     raw.Time,
		Process:  sample.Process{PID: raw.PID},
		TID:      raw.TID,
		Thread:   raw.Comm,
		CgroupID: raw.CgroupID,
		Stack:    make(sample.Stack, 0, len(raw.Kernel)+len(raw.User)+1),
	}
	for i, address := range raw.Kernel {
		s.Stack = append(s.Stack, sample.Location{Object: kernelObject, Offset: callSite(i, address)})
	}
	if raw.KernelThread {
		return s
	}
	proc := p.lookup(raw.PID)
	if proc != nil {
		s.Process.Executable = proc.executable
	}
	for i, address := range raw.User {
		address = callSite(i, address)
		var r *region
		if proc != nil {
			r = p.region(raw.PID, proc, address)
		}
		s.Stack = append(s.Stack, r.location(address))
		if r == nil {
			p.stats.unknownAddresses.Inc()
		} else if r.object.Kind == sample.File {
			hold(raw.PID, r)
		}
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
