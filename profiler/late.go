// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"github.com/fleetprof/fleetprof/bpf"
	"github.com/fleetprof/fleetprof/profiler/unwind"
	"github.com/fleetprof/fleetprof/sample"
)

const (
	// maxFrames is the limit of frames of a walk, as that of the kernel side.
	maxFrames = 1024
	// lateFor is how long a stack waits for unwind tables, in nanoseconds.
	lateFor = 3e9
	// maxLateBytes bounds the memory of the stacks that wait.
	maxLateBytes = 16 << 20
)

// walker walks the stacks that the kernel side sent instead of walking them
// itself, because it did not know the process or had no table. Those that need
// a table that is still being built wait for it. Not safe for concurrent use.
type walker struct {
	region  func(raw *sample.Raw, proc *process, addr uint64) *region
	lookup  func(o *sample.Object, offset uint64) (table *unwind.Table, addr uint64, state uint32)
	want    func(r *region, t *tick, proc *process)
	waiting []lateTick
	bytes   int // of stack memory of those that wait
}

// lateTick is a tick that waits, with its process as it was at that time.
type lateTick struct {
	tick
	process *process
}

// walk finds the user frames of a tick, and sets its reason to stop. It is false
// if a table is missing that may come.
func (w *walker) walk(t *tick, proc *process) (done bool) {
	var missing *region
	frames, stop := unwind.Walk(&unwind.Process{
		Machine: machine(),
		Word:    t.late.word,
		Table: func(addr uint64) (table *unwind.Table, bias uint64, stop sample.Stop) {
			r := w.region(&t.Raw, proc, addr)
			if r == nil {
				return nil, 0, sample.StopCode
			}
			table, linked, state := w.lookup(r.object, addr-r.start+r.offset)
			switch state {
			case bpf.SegmentReady:
				return table, addr - linked, sample.StopNone
			case bpf.SegmentAbsent:
				missing = r
				return nil, 0, sample.StopLate
			}
			return nil, 0, sample.StopNone
		},
	}, t.late.registers, maxFrames)
	t.User, t.Stop = frames, stop
	if missing != nil {
		w.want(missing, t, proc)
	}
	return missing == nil
}

// park keeps a tick until its tables are there. What there is no room for goes
// on as it is.
func (w *walker) park(t tick, proc *process) bool {
	size := len(t.late.memory.Bytes)
	if w.bytes+size > maxLateBytes {
		return false
	}
	proc.shared = true // its regions are not to change in place from now on
	frozen := *proc
	w.waiting = append(w.waiting, lateTick{t, &frozen})
	w.bytes += size
	return true
}

// retry walks those that wait again and hands on the ones that are done, or
// have waited too long.
func (w *walker) retry(now uint64, handOn func(*tick, *process)) {
	waiting := w.waiting
	w.waiting = w.waiting[:0]
	for i := range waiting {
		l := waiting[i]
		if !w.walk(&l.tick, l.process) && now < l.Time+lateFor {
			w.waiting = append(w.waiting, l)
			continue
		}
		w.bytes -= len(l.late.memory.Bytes)
		handOn(&l.tick, l.process)
	}
	clear(waiting[len(w.waiting):]) // let go of their memory
}
