// SPDX-License-Identifier: Apache-2.0

package rpc

import (
	"time"

	"github.com/fleetprof/fleetprof/sample"
)

// An event loop with one open request that goes on after epoll_wait(2) may be at
// that request, or at a timer. If the program was never seen at work while it had
// no request, long enough to tell, it is the request. Long enough: were there as
// much other work as can just have been missed (3 samples in so many expected is
// what a share of 0 of them leaves possible at 95 %, the rule of three), it would be
// 1 % of the samples claimed.
const (
	quietFactor = 3 * 100
	// quietMemory is how long that is believed without being seen again.
	quietMemory = 60 * time.Second
	// ownWork is how long before a read or after an answer a loop is taken to be at
	// its own work for requests.
	ownWork = 500 * time.Microsecond
	// handover is for how long after an answer the loop may still be writing it.
	handover = 100 * time.Millisecond
)

// quiet is what an event loop was seen to do with no open request, and with one.
type quiet struct {
	// idle is for how long it was without requests and not at work, since it last
	// was; from begins the time that is not counted yet, until ended it.
	idle, from, until uint64
	// suspect is when it was last seen at work that may turn out to be its own.
	suspect uint64
	// alone is for how long it had one request, and worked the CPU time of the
	// samples at it.
	alone, worked uint64
	// period is the CPU time of one sample. What is above holds for one rate.
	period uint64
	// answered is when it last answered, and on which socket.
	answered, socket uint64
}

// sampled takes that the loop is sampled. At another rate than before, how often it was
// seen is no measure any more of how often it would have been.
func (q *quiet) sampled(weight sample.Weight, now uint64) {
	period := uint64(weight.CPU())
	if period != q.period && q.period != 0 {
		if q.from != 0 {
			q.from = now
		}
		q.idle, q.alone, q.worked = 0, 0, 0
	}
	q.period = period
}

// loud takes that the loop was at work though it had no request.
func (q *quiet) loud(now uint64) { q.idle, q.from, q.suspect = 0, now, 0 }

// heard takes that the loop reads, writes or waits.
func (q *quiet) heard(now uint64) {
	if q.suspect != 0 && now-q.suspect > uint64(ownWork) {
		q.loud(now)
	}
	q.suspect = 0
}

// unoccupied takes a sample of a loop that has no request.
func (e *Engine) unoccupied(x *executor, s *sample.Sample) {
	inKernel := len(s.Stack) > 0 && s.Stack[0].Object.Kind == sample.Kernel
	if q := &x.quiet; !inKernel && e.now-q.answered > uint64(ownWork) {
		if q.suspect != 0 {
			q.loud(e.now)
		}
		q.suspect = max(e.now, 1)
	}
}

// opens takes that the loop reads a request, and reports whether it has no other
// one, and is done with those before.
func (e *Engine) opens(x *executor, s *socket) (alone bool) {
	q := &x.quiet
	if x.open > 0 {
		x.first.alone = false // the others never were
		return false
	}
	if q.from != 0 {
		q.idle += e.now - min(q.from, e.now)
		q.until = e.now
	}
	return e.now-q.answered > uint64(handover) || q.socket == s.id || e.sockets[q.socket] == nil
}

// closes takes that a request of the loop is over.
func (x *executor) closes(r *request, now uint64) {
	if x.open == 0 {
		x.quiet.from = max(now, 1)
	}
	if r.alone {
		x.quiet.alone += now - min(r.time, now)
	}
	if x.quiet.alone > uint64(time.Minute) {
		x.quiet.alone /= 2
		x.quiet.worked /= 2
	}
}

// occupied reports whether a sample of a loop with one request is of that: the
// loop is not seen to do anything else.
func (e *Engine) occupied(x *executor) bool {
	q, r := &x.quiet, x.first
	if x.open != 1 || !r.alone || !x.waited || r.unsure() || !x.proc.keeps(e.now) {
		return false
	}
	q.worked += q.period
	if q.period == 0 || e.now-q.until > uint64(quietMemory) {
		return false
	}
	// Of the samples while it was alone with requests, so many found it at work.
	due := max((q.alone+e.now-r.time)/q.period, 1)
	return q.idle/q.period*min(q.worked/q.period, due) >= quietFactor*due
}
