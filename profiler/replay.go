// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"cmp"
	"slices"

	"github.com/fleetprof/fleetprof/sample"
)

// replay applies events and hands on samples in the order of their times, up
// to the horizon; what is younger waits for the next time.
func (p *Profiler) replay(horizon uint64) {
	slices.SortStableFunc(p.events, func(a, b event) int { return cmp.Compare(a.time, b.time) })
	slices.SortStableFunc(p.ticks, func(a, b tick) int { return cmp.Compare(a.Time, b.Time) })
	events, ticks := p.events, p.ticks
	for len(ticks) > 0 && ticks[0].Time <= horizon {
		for len(events) > 0 && events[0].time <= ticks[0].Time {
			p.before(events[0].time)
			p.apply(events[0])
			p.processes.name(events[0], events[1:])
			events = events[1:]
		}
		p.before(ticks[0].Time)
		p.take(&ticks[0])
		ticks = ticks[1:]
	}
	for len(events) > 0 && events[0].time <= horizon {
		p.before(events[0].time)
		p.apply(events[0])
		events = events[1:]
	}
	p.before(horizon)
	p.events = append(p.events[:0], events...)
	rest := len(ticks)
	p.ticks = append(p.ticks[:0], ticks...)
	clear(p.ticks[rest:cap(p.ticks)]) // let go of their memory
}

// before hands on the activities up to a time.
func (p *Profiler) before(time uint64) {
	if p.activities != nil {
		p.activities.until(time, p.opts.Requests, p.admit)
	}
}

// admit looks at an activity, and says whether it is to be handed on.
func (p *Profiler) admit(a *activity) bool {
	switch {
	case a.Executor.Kind == sample.UnknownExecutor:
		p.meet(a)
	case a.needsClose() && !p.followsCloses(a.Time):
		p.stats.unfollowed.Inc()
		return false
	}
	return true
}

// meet sees to it that it will be known who executes in a process that serves requests.
func (p *Profiler) meet(a *activity) {
	if proc := p.processes.byPID[a.PID]; proc != nil {
		p.executes(a.PID, a.TID, proc, a.space, a.Kind == sample.Read)
	}
}

// executes sees to it that the kernel side knows who executes in a process. serves says
// that it was seen to serve requests.
func (p *Profiler) executes(pid, tid uint32, proc *process, space addressSpace, serves bool) {
	want := func(r *region) { p.files.hold(r, tid, proc.parent) }
	p.programs.meet(pid, proc, space, want)
	if serves {
		p.programs.serves(pid, proc, want)
	}
}

func (p *Profiler) apply(e event) {
	p.stats.events.Inc()
	p.processes.apply(e)
	switch e.kind {
	case eventFork, eventExit:
		p.selection.forget(e.pid)
	case eventLost:
		p.selection.forgetAll()
	}
	if p.opts.Requests != nil && (e.kind == eventExit || e.kind == eventExec) {
		p.opts.Requests.Exited(e.pid)
	}
	p.unlistEnded()
}

// unlistEnded makes the kernel side forget the processes that have ended, before a
// tick of another one with the same number is looked at.
func (p *Profiler) unlistEnded() {
	for _, pid := range p.processes.ended {
		p.lists.remove(pid)
		p.selection.forget(pid)
		p.programs.ended(pid)
		if p.activities != nil {
			p.activities.libraries.ended(pid)
		}
		p.contexts.ended(pid)
	}
	p.processes.ended = p.processes.ended[:0]
}

// take finds the process of a tick and hands the tick on, at once or when its
// stack can be walked.
func (p *Profiler) take(t *tick) {
	if t.KernelThread {
		if p.selection.admit(t, nil) {
			p.handOn(t, nil)
		}
		return
	}
	proc := p.processes.lookup(&t.Raw)
	if !p.selection.admit(t, proc) {
		return
	}
	if proc != nil {
		p.executes(t.PID, t.TID, proc, t.space, t.Request.Source != "")
		if t.Executor.Kind == sample.Thread {
			p.contexts.meet(t)
		}
	}
	switch {
	case proc == nil && t.late != nil:
		t.User, t.Stop = []uint64{t.late.registers.IP}, sample.StopCode
	case t.late != nil:
		walked := p.walker.walk(t, proc)
		p.list(t.PID, proc, t.space)
		if !walked && p.walker.park(*t, proc) {
			return
		}
	case proc != nil:
		p.lists.touch(t.PID)
	}
	p.handOn(t, proc)
}

// list gives the kernel side the mappings of a process, so that it walks the
// stacks of this address space itself.
func (p *Profiler) list(pid uint32, proc *process, space addressSpace) {
	if p.lists.touch(pid) && proc.listed == space && proc.current {
		return
	}
	proc.listed = space
	proc.current = p.lists.install(pid, space.mm, space.execID, proc.regions.lower()) == nil
}

// handOn hands a tick to the sink.
func (p *Profiler) handOn(t *tick, proc *process) {
	if t.Stop.Truncated() {
		p.stats.truncated.WithLabelValues(t.Stop.String()).Inc()
	}
	p.stats.samples.Inc()
	s := p.processes.locate(&t.Raw, proc, p.files.hold)
	p.programs.leaves(s, t.Stop)
	p.opts.Sink.Sample(s)
}
