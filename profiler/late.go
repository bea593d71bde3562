// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"github.com/klauspost/compress/s2"

	"github.com/fleetprof/fleetprof/bpf"
	"github.com/fleetprof/fleetprof/profiler/unwind"
	"github.com/fleetprof/fleetprof/sample"
)

const (
	// lateFor is how long a stack waits for unwind tables, in nanoseconds.
	lateFor = 3e9
	// maxLateBytes bounds the packed memory of the stacks that wait.
	maxLateBytes = 16 << 20
)

// walker walks the stacks that the kernel side sent instead of walking them
// itself, because it did not know the process or had no table. Those that need
// a table that is still being built wait for it. Not safe for concurrent use.
type walker struct {
	region  func(raw *sample.Raw, proc *process, addr uint64) *region
	lookup  func(o *sample.Object, offset uint64) (table *unwind.Table, addr uint64, state uint32)
	want    func(r *region, t *tick, proc *process)
	lacking lacking    // what the last walk came to its end for
	waiting []lateTick // in the order of their times
	bytes   int        // of those that wait
	memory  []byte     // of the one that is walked
}

// lacking is the object whose table a walk lacks, for the code at an offset.
type lacking struct {
	region *region
	offset uint64
}

// lateTick is a tick that waits, with its process as it was at that time. Its
// stack memory, mostly zeros and repetition, is packed.
type lateTick struct {
	tick
	process *process
	packed  []byte
	lacking lacking
}

// walk finds the user frames of a tick, and sets its reason to stop. It is false
// if a table is missing that may come.
func (w *walker) walk(t *tick, proc *process) (done bool) {
	w.lacking = lacking{}
	frames, stop := unwind.Walk(&unwind.Process{
		Machine: machine(),
		Word:    t.late.word,
		Table: func(addr uint64) (table *unwind.Table, bias uint64, stop sample.Stop) {
			r := w.region(&t.Raw, proc, addr)
			if r == nil {
				return nil, 0, sample.StopCode
			}
			offset := addr - r.start + r.offset
			table, linked, state := w.lookup(r.object, offset)
			switch state {
			case bpf.SegmentReady:
				return table, addr - linked, sample.StopNone
			case bpf.SegmentAbsent:
				w.lacking = lacking{r, offset}
				return nil, 0, sample.StopLate
			}
			return nil, 0, sample.StopNone
		},
	}, t.late.registers, bpf.MaxUserFrames)
	t.User, t.Stop = frames, stop
	if w.lacking.region != nil {
		w.want(w.lacking.region, t, proc)
	}
	return w.lacking.region == nil
}

// park keeps the tick walked last until its tables are there. What there is no room for goes
// on as it is.
func (w *walker) park(t tick, proc *process) bool {
	packed := s2.Encode(nil, t.late.memory.Bytes)
	if w.bytes+len(packed) > maxLateBytes {
		return false
	}
	t.late.memory.Bytes = nil
	proc.shared = true // its regions are not to change in place from now on
	frozen := *proc
	w.waiting = append(w.waiting, lateTick{t, &frozen, packed, w.lacking})
	w.bytes += len(packed)
	return true
}

// retry walks those that wait again and hands on the ones that are done, or
// have waited too long. It need be called only when tables have come, or when
// tooLong says so.
func (w *walker) retry(now uint64, handOn func(*tick, *process)) {
	waiting := w.waiting
	w.waiting = w.waiting[:0]
	for i := range waiting {
		l := waiting[i]
		if !w.again(&l) && now < l.Time+lateFor {
			w.waiting = append(w.waiting, l)
			continue
		}
		w.bytes -= len(l.packed)
		handOn(&l.tick, l.process)
	}
	clear(waiting[len(w.waiting):]) // let go of their memory
}

// again walks a tick that waits, if what it lacked has come.
func (w *walker) again(l *lateTick) (done bool) {
	if _, _, state := w.lookup(l.lacking.region.object, l.lacking.offset); state == bpf.SegmentAbsent {
		w.want(l.lacking.region, &l.tick, l.process)
		return false
	}
	var err error
	if w.memory, err = s2.Decode(w.memory[:cap(w.memory)], l.packed); err != nil {
		panic(err) // it is what park has packed
	}
	l.late.memory.Bytes = w.memory
	done = w.walk(&l.tick, l.process)
	l.lacking = w.lacking
	l.late.memory.Bytes = nil
	return done
}

// tooLong tells whether one has waited too long.
func (w *walker) tooLong(now uint64) bool {
	return len(w.waiting) > 0 && now >= w.waiting[0].Time+lateFor
}
