// SPDX-License-Identifier: Apache-2.0

package rpc

import (
	"strconv"
	"strings"

	"github.com/fleetprof/fleetprof/sample"
)

// claim is what is said of a sample.
type claim struct {
	attribution sample.Attribution
	source      sample.Source
	h           *handler
	// trace is that of the very request; nil if it has none, or is not known.
	trace *trace
}

// verdictOf is what is said of a sample, or what it waits for.
type verdictOf struct {
	claim
	candidates int

	why   reason
	owner *executor
	about ref
}

func unattributed() verdictOf { return verdictOf{claim: claim{attribution: sample.Unattributed}} }

// ambiguous says that it may have been any open request of an executor.
func ambiguous(x *executor) verdictOf {
	return verdictOf{claim: claim{attribution: sample.Ambiguous}, candidates: x.open}
}

// bySocket claims a sample for a request that was seen on a socket.
func bySocket(a sample.Attribution, r *request) verdictOf {
	return verdictOf{claim: claim{a, sample.SourceSocket, r.handler(), r.trace}}
}

// wait puts a verdict off.
func (v verdictOf) wait(why reason, x *executor, about ref) verdictOf {
	v.why, v.owner, v.about = why, x, about
	return v
}

// Sample decides which request a sample served, and calls decided exactly once
// for it: now, in a later call of Activity, Sample, LostActivities or Exited, or
// in Flush at the latest. decided must not call the Engine. The sample itself is
// not kept.
func (e *Engine) Sample(s *sample.Sample, decided func(sample.Handler)) {
	e.advance(s.Time)
	v := e.judge(s)
	if v.why != decidedNow {
		e.wait(v, e.now, s.Weight, decided)
		return
	}
	e.decide(v, s.Weight, decided)
}

func (e *Engine) decide(v verdictOf, weight sample.Weight, decided func(sample.Handler)) {
	e.metrics.samples[v.attribution].Add(float64(weight.Ticks))
	var labels sample.Handler
	if v.h != nil {
		labels = v.h.labels
		v.h.cpu.Add(weight.CPU().Seconds())
	}
	if v.trace != nil {
		v.trace.cpu += weight.CPU()
	}
	if v.attribution == sample.Ambiguous {
		e.metrics.candidates.Observe(float64(v.candidates))
	}
	labels.Attribution, labels.Source = v.attribution, v.source
	decided(labels)
}

// judge looks at the evidence, the strongest first.
func (e *Engine) judge(s *sample.Sample) verdictOf {
	if v, ok := e.labelled(s); ok {
		return v
	}
	if v, ok := e.told(s); ok {
		return v
	}
	switch s.Executor.Kind {
	case sample.RuntimeExecutor:
		return verdictOf{claim: claim{attribution: sample.Runtime}}
	case sample.Thread, sample.Goroutine:
	default:
		e.perhapsUnoccupied(s)
		return unattributed()
	}
	if e.late(s) {
		e.metrics.late.Inc()
		e.perhapsUnoccupied(s)
		return unattributed()
	}
	p := e.processes[s.Process.PID]
	if p == nil {
		return unattributed()
	}
	if s.Executor.Kind == sample.Thread {
		return e.thread(p, s)
	}
	return e.goroutine(p, s)
}

// late reports whether what the sockets told at a sample has changed since.
func (e *Engine) late(s *sample.Sample) bool { return s.Time < e.now }

// perhapsUnoccupied takes a sample of which it is not known who executed, or what was
// open then.
func (e *Engine) perhapsUnoccupied(s *sample.Sample) {
	if x := e.known(executorKey{s.Process.PID, sample.Thread, uint64(s.TID)}); x != nil && x.open == 0 {
		x.quiet.sampled(s.Weight, e.now)
		e.unoccupied(x, s)
	}
}

// told is what the program's memory says of the request.
func (e *Engine) told(s *sample.Sample) (v verdictOf, ok bool) {
	q := &s.Request
	p, h := e.inMemory(s)
	if h == nil {
		return v, false
	}
	v.claim = claim{attribution: sample.Exact, source: q.Source, h: h}
	switch q.Goroutine {
	case s.Executor.Goroutine:
		e.join(p, s, h)
		v.trace = e.traceOf(p, s, h)
		return v, true
	case s.Executor.Parent:
		if e.late(s) {
			e.metrics.late.Inc()
			return unattributed(), true
		}
		e.join(p, s, h)
		v.trace = e.traceOf(p, s, h)
		v.attribution = sample.Inferred
		return e.child(s, e.parentRequest(s, p.service), v), true
	}
	return unattributed(), true
}

// inMemory is the handler of the request that the program's memory tells, nil if it
// tells none.
func (e *Engine) inMemory(s *sample.Sample) (*process, *handler) {
	q := &s.Request
	path, _, _ := strings.Cut(q.Path, "?")
	if q.Source == "" || q.RPC == "" && q.Route == "" && path == "" {
		return nil, nil
	}
	if q.Method == "PRI" { // the preface of HTTP/2, which golang.org/x/net/http2/h2c takes for a request
		return nil, nil
	}
	p := e.process(s.Process.PID)
	switch {
	case q.RPC != "":
		return p, e.handlers.rpc(p.service, systemGRPC, q.RPC)
	case q.Route != "":
		return p, e.handlers.route(p.service, q.Method, pathOf(q.Route))
	}
	h := head{method: []byte(q.Method)}
	if !h.setTarget([]byte(path), false) {
		h.target = unknownPath
	}
	found, _ := e.handlers.path(p.service, h.method, h.target, q.PathCut)
	return p, p.known(found)
}

// pathOf is the path of a pattern, which in Go's net/http may have a method and
// a host before it: "GET example.com/items/{id}".
func pathOf(route string) string {
	if i := strings.IndexByte(route, '/'); i > 0 {
		return route[i:]
	}
	return route
}

// parentRequest tells one request of the parent from the next: by what was seen
// on sockets, or else, and if some are passed over, by where it lies in memory and
// what it asks for.
func (e *Engine) parentRequest(s *sample.Sample, service *service) uint64 {
	q := &s.Request
	what := q.Path + "\x00" + q.RPC
	if x := e.known(executorKey{s.Process.PID, sample.Goroutine, s.Executor.Parent}); x != nil && x.latest != 0 {
		if !x.passes {
			return x.latest
		}
		what += "\x00" + strconv.FormatUint(x.latest, 16)
	}
	if q.ID != 0 {
		what += "\x00" + strconv.FormatUint(q.ID, 16)
	} else {
		what += "\x00" + q.Route
	}
	return 1<<63 | e.handlers.identity(service, byRoute, []byte(q.Method), []byte(what))
}

// never is the birth of a goroutine that is no part of a request.
const never = ^uint64(0)

// child judges a sample of a goroutine by the request of its parent that is open
// now. One that was seen during another request, or goes on after this one, is
// background work that a handler once started, so the claim has to wait.
func (e *Engine) child(s *sample.Sample, during uint64, v verdictOf) verdictOf {
	x := e.executor(s.Process.PID, s.TID, s.Executor)
	switch {
	case x == nil:
		return unattributed()
	case x.birth == 0:
		x.birth = during
	case x.birth != during:
		e.background(x)
		return unattributed()
	}
	return v.wait(forChild, x, ref{})
}

// thread judges a sample of a thread by what it read.
func (e *Engine) thread(p *process, s *sample.Sample) verdictOf {
	handsOff := p.handsOff(e.now)
	x := e.known(executorKey{p.pid, sample.Thread, uint64(s.TID)})
	if x == nil {
		if !handsOff {
			return unattributed()
		}
		x = e.executor(p.pid, s.TID, s.Executor)
	}
	x.quiet.sampled(s.Weight, e.now)
	e.dropIdle(x)
	switch {
	case x.run.get() != nil:
		return verdictOf{}.wait(forRun, x, x.run)
	case handsOff && !x.waited:
		return verdictOf{}.wait(forAnswer, x, ref{})
	case x.open == 0:
		e.unoccupied(x, s)
		return unattributed()
	case handsOff:
		return unattributed()
	case !x.first.loop && !x.last.loop:
		return e.only(x)
	case e.occupied(x):
		return bySocket(sample.Inferred, x.first)
	}
	return ambiguous(x)
}

// goroutine judges a sample of a goroutine by what it read, or what the one that
// started it did.
func (e *Engine) goroutine(p *process, s *sample.Sample) verdictOf {
	x := e.known(executorKey{p.pid, sample.Goroutine, s.Executor.Goroutine})
	if x != nil {
		e.dropIdle(x)
	}
	if p.handsOff(e.now) {
		if x = e.executor(p.pid, s.TID, s.Executor); x == nil {
			return unattributed()
		}
		return verdictOf{}.wait(forAnswer, x, ref{})
	}
	if x != nil && x.open > 0 {
		return e.only(x)
	}
	parent := e.known(executorKey{p.pid, sample.Goroutine, s.Executor.Parent})
	if parent != nil {
		e.executorList.touch(parent)
		e.dropIdle(parent)
	}
	switch {
	case parent != nil && parent.passes:
		return unattributed()
	case parent == nil || parent.open == 0:
		e.background(x)
		return unattributed()
	case parent.open > 1 || parent.first.unsure():
		return ambiguous(parent)
	}
	return e.child(s, parent.first.serial, bySocket(sample.Inferred, parent.first))
}

// only judges by the open requests of an executor that does one thing after the
// other.
func (e *Engine) only(x *executor) verdictOf {
	r := x.first
	switch {
	case x.last.doubtful && !x.last.sock.hidden && (x.open == 1 || x.key.kind == sample.Thread):
		return bySocket(sample.Exact, x.last).wait(forProof, x, x.last.ref())
	case x.open > 1 || r.unsure() || r.sock.crowded():
		return ambiguous(x)
	case x.proc.keeps(e.now):
		return bySocket(sample.Exact, r)
	}
	return bySocket(sample.Exact, r).wait(forModel, x, r.ref())
}

// dropIdle gives up requests that are open for too long to be true.
func (e *Engine) dropIdle(x *executor) {
	for x.first != nil && e.now-x.first.time > uint64(requestIdle) {
		e.abandon(x.first, e.metrics.idle)
	}
}

// overdue judges a sample that waited, without waiting any longer.
func (e *Engine) overdue(i int32) verdictOf {
	w := &e.waiting.all[i]
	x, r := w.owner, w.about.get()
	switch {
	case w.why == forChild && (w.claim.source != sample.SourceSocket || !x.proc.handsOff(e.now)):
		return verdictOf{claim: w.claim}
	case r == nil || w.why == forAnswer || x.proc.handsOff(e.now):
		return unattributed()
	case w.why == forProof || r.unsure() || x.open != 1:
	case w.why == forModel && !r.loop && x.proc.keeps(e.now):
		return verdictOf{claim: w.claim}
	case w.why == forRun && x.run.get() == r && x.waited && x.certain && x.trusted(e.now) && x.runs >= provenRuns:
		return bySocket(sample.Exact, r)
	}
	return ambiguous(x)
}

// provenRuns is how many answers in the run of their request show that an event
// loop is written so.
const provenRuns = 8

// trusted reports whether an event loop only answers, these days, what it read
// in the same turn.
func (x *executor) trusted(now uint64) bool {
	return x.stray == 0 || now-x.stray >= uint64(strayMemory)
}

// runVerdict judges the samples of an event loop between reading and writing for
// a request, with no other read and no end of the turn in between.
func (e *Engine) runVerdict(x *executor, r *request) verdictOf {
	v := bySocket(sample.Inferred, r)
	trusted := x.trusted(e.now)
	switch {
	case r.unsure():
		return ambiguous(x)
	case x.proc.handsOff(e.now):
		if !trusted {
			return unattributed()
		}
	case !x.waited:
		// The loop does not wait by epoll_wait(2), so its turns are not known.
		if x.open > 1 {
			return ambiguous(x)
		}
	case !trusted:
		// Callbacks of timers and such do work for requests too, and may have come
		// in between; rarely so after an upstream answer.
		if !x.resumed && uint64(x.strays)*50 > uint64(x.runs) {
			return ambiguous(x)
		}
	case x.open == 1 && x.certain:
		v.attribution = sample.Exact
	}
	return v
}
