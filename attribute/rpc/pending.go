// SPDX-License-Identifier: Apache-2.0

package rpc

import "github.com/fleetprof/fleetprof/sample"

// none is the index of no waiter.
const none int32 = -1

// reason is what a sample waits for.
type reason uint8

const (
	decidedNow reason = iota
	// forModel: nobody knows yet whether the process answers where it reads; the
	// answer to the request will tell.
	forModel
	// forRun: an event loop does something it read to start; if it writes for
	// the same request next, it was that one.
	forRun
	// forAnswer: what the executor answers next is what it worked on.
	forAnswer
	// forProof: what looked like a request may have been something else; its answer
	// tells.
	forProof
	// forChild: a goroutine that goes on after the request of its parent was
	// background work all the time.
	forChild
)

// waiter is a sample that waits.
type waiter struct {
	decided func(sample.Handler)
	time    uint64
	weight  sample.Weight
	owner   *executor
	about   ref
	why     reason
	// claim is what is said of the sample if the wait bears it out.
	claim claim

	previous, next           int32 // of all, the oldest first
	previousOwned, nextOwned int32 // of the owner's
}

// waiting are the samples that wait.
type waiting struct {
	all               []waiter
	free, first, last int32
	n                 int
}

// wait keeps a sample until it can be decided.
func (e *Engine) wait(v verdictOf, time uint64, weight sample.Weight, decided func(sample.Handler)) {
	q := &e.waiting
	if q.n >= maxPending {
		e.metrics.pendingDropped.Inc()
		e.settle(q.first, e.overdue(q.first))
	}
	i := q.free
	if i != none {
		q.free = q.all[i].next
	} else {
		i = int32(len(q.all)) // at most maxPending
		q.all = append(q.all, waiter{})
	}
	x := v.owner
	q.all[i] = waiter{
		decided: decided, time: time, weight: weight, owner: x, about: v.about, why: v.why, claim: v.claim,
		previous: q.last, next: none, previousOwned: x.pendLast, nextOwned: none,
	}
	if q.last != none {
		q.all[q.last].next = i
	} else {
		q.first = i
	}
	q.last = i
	if x.pendLast != none {
		q.all[x.pendLast].nextOwned = i
	} else {
		x.pendFirst = i
	}
	x.pendLast = i
	x.pending++
	q.n++
	e.metrics.pending.Set(float64(q.n))
}

// settle decides a sample that waited.
func (e *Engine) settle(i int32, v verdictOf) {
	q := &e.waiting
	w := q.all[i]
	if w.previous != none {
		q.all[w.previous].next = w.next
	} else {
		q.first = w.next
	}
	if w.next != none {
		q.all[w.next].previous = w.previous
	} else {
		q.last = w.previous
	}
	x := w.owner
	if w.previousOwned != none {
		q.all[w.previousOwned].nextOwned = w.nextOwned
	} else {
		x.pendFirst = w.nextOwned
	}
	if w.nextOwned != none {
		q.all[w.nextOwned].previousOwned = w.previousOwned
	} else {
		x.pendLast = w.previousOwned
	}
	x.pending--
	q.n--
	q.all[i] = waiter{next: q.free}
	q.free = i
	e.metrics.pending.Set(float64(q.n))
	e.decide(v, w.weight, w.decided)
}

// Flush decides all samples that wait, as far as is known now.
func (e *Engine) Flush() {
	for e.waiting.first != none {
		e.settle(e.waiting.first, e.overdue(e.waiting.first))
	}
}

// settleEach decides those samples of an executor that f has a verdict for.
func (e *Engine) settleEach(x *executor, f func(i int32, w *waiter) (v verdictOf, ok bool)) {
	for i := x.pendFirst; i != none; {
		next := e.waiting.all[i].nextOwned
		if v, ok := f(i, &e.waiting.all[i]); ok {
			e.settle(i, v)
		}
		i = next
	}
}

// settleAll decides all samples of an executor.
func (e *Engine) settleAll(x *executor) {
	e.settleEach(x, func(i int32, _ *waiter) (verdictOf, bool) { return e.overdue(i), true })
}

// settleAbout decides the samples that wait for a request of which nothing more
// will come.
func (e *Engine) settleAbout(r *request) {
	if r.reader.pending == 0 {
		return
	}
	e.settleEach(r.reader, func(i int32, w *waiter) (verdictOf, bool) {
		return e.overdue(i), w.about.serial == r.serial
	})
}

// settleRun decides the samples of a run of r, nil if that is over, that did not
// lead to a write.
func (e *Engine) settleRun(x *executor, r *request) {
	v := ambiguous(x)
	switch {
	case x.proc.handsOff(e.now):
		v = unattributed()
	case r != nil && r == x.first && e.occupied(x):
		v = bySocket(sample.Inferred, r)
	}
	e.settleEach(x, func(_ int32, w *waiter) (verdictOf, bool) { return v, w.why == forRun })
}

// settleBracket decides the samples of a run between reading and writing for a
// request.
func (e *Engine) settleBracket(x *executor, r *request) {
	if x.pending == 0 {
		return
	}
	v := e.runVerdict(x, r)
	e.settleEach(x, func(_ int32, w *waiter) (verdictOf, bool) {
		return v, w.why == forRun && w.about.serial == r.serial
	})
}

// settleSame decides what waits for a request that its reader answers.
func (e *Engine) settleSame(x *executor, r *request) {
	if r.loop {
		e.countRun(x, r)
	}
	if x.pending == 0 {
		return
	}
	e.settleEach(x, func(_ int32, w *waiter) (v verdictOf, ok bool) {
		if w.why != forModel && w.why != forProof || w.about.serial != r.serial {
			return v, false
		}
		switch {
		case x.proc.handsOff(e.now):
			return unattributed(), true
		case r.loop || r.sock.hidden:
			return ambiguous(x), true
		}
		return verdictOf{claim: w.claim}, true
	})
}

// countRun notes whether an event loop answers what it read before in this turn,
// which tells how its program is written.
func (e *Engine) countRun(x *executor, r *request) {
	// If it is not known which of several equal requests an upstream answer was
	// for, the answer to any of them ends the run.
	if about := x.run.get(); about != nil && (about == r || !x.certain && about.h == r.h) {
		x.runs++
		e.settleBracket(x, about)
		x.run = ref{}
	} else {
		if !r.uploads {
			x.strays++
			x.stray = max(e.now, 1)
		}
		e.endRun(x)
	}
	if x.runs+x.strays > 1024 {
		x.runs /= 2
		x.strays /= 2
	}
}

// background takes that a goroutine goes on after the request of its parent.
func (e *Engine) background(x *executor) {
	if x == nil || x.birth == 0 {
		return
	}
	x.birth = never
	if x.pending > 0 {
		e.settleEach(x, func(_ int32, w *waiter) (verdictOf, bool) { return unattributed(), w.why == forChild })
	}
}

// settleAnswered decides the samples of who answers, in a process whose requests
// change hands: since it did something else, and since the request was read, it
// worked on that.
func (e *Engine) settleAnswered(x *executor, r *request) {
	if x.pending == 0 || !x.proc.handsOff(e.now) {
		return
	}
	from := max(r.time, x.bound)
	claimed := verdictOf{claim: claim{sample.Inferred, sample.SourceDeferred, r.handler(), r.trace}}
	e.settleEach(x, func(_ int32, w *waiter) (verdictOf, bool) {
		if w.time < from || r.sock.hidden {
			return unattributed(), w.why == forAnswer
		}
		return claimed, w.why == forAnswer
	})
}
