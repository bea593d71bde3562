// SPDX-License-Identifier: Apache-2.0

package unwind

import "github.com/fleetprof/fleetprof/sample"

// Go code runs on two stacks: that of its goroutine, and that of the thread, which
// belongs to the thread's scheduling goroutine g0. C runs on the thread's stack.
// Walks find from one to the other by the records of Go's runtime. A thread (m) and
// its g0 point to each other, and goroutines point to the thread that runs them:
// records that do not are not what they are taken for.

// Offsets in the records of Go's runtime, in bytes: runtime.g and runtime.m.
const (
	goStackLow  = 0  // g.stack.lo
	goStackHigh = 8  // g.stack.hi
	goM         = 48 // g.m
	goSchedSP   = 56 // g.sched.sp
	goSchedPC   = 64 // g.sched.pc
	goG0        = 0  // m.g0
)

// goLayouts are those of Go 1.25, which dropped a field, and before.
var goLayouts = [...]struct {
	curg    uint64 // m.curg
	schedFP uint64 // g.sched.bp
}{{184, 96}, {192, 104}}

// toGoroutine goes from the scheduler's stack of a thread to the goroutine that
// the thread works for. That the records are what they are taken for shows in how
// they point to each other.
func (w *walk) toGoroutine() sample.Stop {
	if w.exact {
		return sample.StopUnsupported // it may not have changed the stack yet
	}
	g0 := w.all[w.arch.g]
	m, stop := w.load(g0 + goM)
	if stop != more {
		return stop
	}
	of, stop := w.load(m + goG0)
	if stop != more {
		return stop
	}
	var curg [len(goLayouts)]uint64
	for i, layout := range goLayouts {
		if curg[i], stop = w.load(m + layout.curg); stop != more {
			return stop
		}
	}
	if of != g0 {
		return sample.StopUnsupported
	}
	for i, layout := range goLayouts {
		g := curg[i]
		if of, ok := w.Word(g + goM); !ok || of != m {
			continue
		}
		sp, spOK := w.Word(g + goSchedSP)
		pc, pcOK := w.Word(g + goSchedPC)
		fp, fpOK := w.Word(g + layout.schedFP)
		if !spOK || !pcOK || !fpOK {
			continue
		}
		return w.called(pc, known{sp, true}, known{fp, true}, known{})
	}
	return sample.StopUnsupported
}

// threadOf finds the g0 of the thread that runs goroutine g.
func (w *walk) threadOf(g uint64) (g0 uint64, ok bool) {
	m, ok := w.Word(g + goM)
	if !ok {
		return 0, false
	}
	if g0, ok = w.Word(m + goG0); !ok {
		return 0, false
	}
	of, ok := w.Word(g0 + goM)
	return g0, ok && of == m
}

// toThreadStack goes on from a callback's frame on the goroutine's stack to its
// frame on the thread's. The latter's SP is in g0.sched.sp as long as the callback
// runs; what was there before, for the callback further out, is in that frame
// (runtime.cgocallback). That the two belong together shows in the arguments, which
// are copied from one to the other: the second is an address in the frame of the C
// function that called.
func (w *walk) toThreadStack(r Rule) sample.Stop {
	at := w.callback
	if at == 0 {
		g0, ok := w.threadOf(w.all[w.arch.g])
		if !ok {
			return sample.StopUnsupported
		}
		if at, ok = w.Word(g0 + goSchedSP); !ok {
			return sample.StopUnsupported
		}
	}
	args := at + uint64(int64(r.CFA)) + w.arch.goArgs
	outer, ok := w.Word(at + w.arch.goOuterSP)
	if !ok || !w.sp.ok || !w.equal(w.sp.value+w.arch.goArgs, args) || !w.equal(w.sp.value+w.arch.goArgs+8, args+8) {
		return sample.StopUnsupported
	}
	w.callback, w.sp.value = outer, at
	return w.byRule(r)
}

// equal compares two words of memory.
func (w *walk) equal(addr, other uint64) bool {
	x, xOK := w.Word(addr)
	y, yOK := w.Word(other)
	return xOK && yOK && x == y
}

// toGoroutineStack goes on from the frame on the thread's stack of Go code that
// calls C to its frame on the goroutine's stack.
func (w *walk) toGoroutineStack(r Rule) sample.Stop {
	if !w.exact && w.sp.ok && w.findGoroutineSP(r) {
		return w.byRule(r)
	}
	if w.arch.link {
		return sample.StopUnsupported // the frame pointer is not the goroutine's
	}
	w.sp.ok = false // on which of the stacks this is nobody knows
	return w.byFramePointer()
}

// maxSwitchFrame is more than what runtime.asmcgocall takes of the thread's stack,
// in bytes.
const maxSwitchFrame = 96

// findGoroutineSP reads what runtime.asmcgocall has put on the thread's stack: the
// goroutine, and how far its SP is from the stack's upper end. Without a goroutine
// it did not change stacks, and has put SP there.
func (w *walk) findGoroutineSP(r Rule) bool {
	place := w.sp.value + uint64(int64(r.Add))
	depth, depthOK := w.Word(place + w.arch.goDepth)
	g, gOK := w.Word(place + 8 - w.arch.goDepth)
	if !depthOK || !gOK {
		return false
	}
	if g == 0 {
		if depth-w.sp.value > maxSwitchFrame {
			return false
		}
		w.sp.value = depth
		return true
	}
	low, lowOK := w.Word(g + goStackLow)
	high, highOK := w.Word(g + goStackHigh)
	if _, ok := w.threadOf(g); !ok || !lowOK || !highOK || depth > high-low {
		return false
	}
	w.all[w.arch.g] = g // as it will be when C has returned
	w.sp.value = high - depth
	return true
}
