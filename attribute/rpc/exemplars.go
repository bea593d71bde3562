// SPDX-License-Identifier: Apache-2.0

package rpc

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/fleetprof/fleetprof/attribute/rpc/http2"
	"github.com/fleetprof/fleetprof/sample"
)

// trace is a request with a traceparent. Samples that wait may outlive the request,
// so they refer to its trace instead.
type trace struct {
	traceparent
	proc *process
	// cpu is that of the samples bound to the request so far; bindable says that there
	// may be any.
	cpu      time.Duration
	bindable bool
	// Of an answered request: when it was read, CLOCK_MONOTONIC in nanoseconds, and
	// the time to its answer.
	start    uint64
	duration time.Duration
	status   int
}

// exemplars keeps some of the answered requests of a window for each handler.
type exemplars struct {
	perHandler int
	total      int // of all handlers
	random     *rand.Rand
	of         map[*handler]*reservoir
	leftOut    counter
}

// reservoir is a uniform sample of the requests of one handler: Algorithm R of Vitter,
// Random Sampling with a Reservoir (ACM TOMS 11(1), 1985). The i-th request takes the
// place of one of the k kept with probability k/i.
type reservoir struct {
	kept []*trace
	seen uint64
	// full says that kept grows no more. Until then it has all that were seen, so
	// that the sample is uniform whatever it was that kept it from growing.
	full bool
}

func newExemplars(perHandler int, random *rand.Rand, leftOut counter) *exemplars {
	return &exemplars{perHandler: perHandler, random: random, of: make(map[*handler]*reservoir), leftOut: leftOut}
}

// add takes an answered request.
func (x *exemplars) add(h *handler, t *trace) {
	r := x.of[h]
	if r == nil {
		if x.total >= sample.MaxExemplars {
			x.leftOut.Inc()
			return
		}
		r = new(reservoir)
		x.of[h] = r
	}
	r.seen++
	if !r.full && len(r.kept) < x.perHandler && x.total < sample.MaxExemplars {
		r.kept = append(r.kept, t)
		x.total++
		return
	}
	r.full = true
	if len(r.kept) < x.perHandler {
		x.leftOut.Inc() // there is no room for as many as were asked for
	}
	if i := x.random.Uint64N(r.seen); i < uint64(len(r.kept)) {
		r.kept[i] = t
	}
}

// take gives what is kept, and begins anew. zero is the time at which
// CLOCK_MONOTONIC was 0. It is labelled, or withheld, by what is known of its process
// now.
func (x *exemplars) take(zero time.Time, identified func(*process) *process) (all []sample.Exemplar) {
	for h, r := range x.of {
		for _, t := range r.kept {
			if s := identified(t.proc).service; !s.withheld {
				all = append(all, t.exemplar(s, h, zero))
			}
		}
	}
	clear(x.of)
	x.total = 0
	return all
}

func (t *trace) exemplar(s *service, h *handler, zero time.Time) sample.Exemplar {
	e := sample.Exemplar{
		TraceID: t.trace, SpanID: t.span, Sampled: t.sampled,
		Start: zero.Add(time.Duration(t.start)), Duration: t.duration,
		Labels: map[string]string{sample.LabelService: s.name},
	}
	if t.bindable {
		cpu := t.cpu
		e.CPU = &cpu
	}
	if t.status != 0 {
		e.StatusClass = fmt.Sprintf("%dxx", t.status/100)
	}
	sample.Labels{Handler: h.labels}.Each(func(name, value string) { e.Labels[name] = value })
	return e
}

// Exemplars gives requests with a traceparent that were answered since the last call,
// at most Options.Exemplars for each handler, each of its requests as likely as any
// other; in no order. zero is the time at which CLOCK_MONOTONIC was 0. Flush comes
// before, for samples that wait to count.
func (e *Engine) Exemplars(zero time.Time) []sample.Exemplar {
	if e.exemplars == nil {
		return nil
	}
	return e.exemplars.take(zero, e.identified)
}

// carries takes the traceparent of a request; nil for none. whole says that there is
// no header field but those that were seen.
func (e *Engine) carries(r *request, value []byte, whole bool) {
	switch {
	case e.exemplars == nil, value == nil && whole:
		return
	case value == nil:
		e.metrics.tracesUnknown.Inc()
		return
	}
	p, ok := parseTraceparent(value)
	if !ok {
		e.metrics.tracesMalformed.Inc()
		return
	}
	e.metrics.tracesValid.Inc()
	r.trace = &trace{traceparent: p, proc: r.proc, bindable: r.reader != nil}
}

// carriesField does so for the field of an http2.Event.
func (e *Engine) carriesField(r *request, value string) {
	if value == "" || value == http2.Unknown {
		e.carries(r, nil, value == "")
		return
	}
	e.carries(r, []byte(value), true)
}

// exemplify takes that a request with a traceparent is answered. Where requests may have
// been missed, the answer is perhaps that of another one.
func (e *Engine) exemplify(r *request, h *handler, status int) {
	if t := r.trace; t != nil && !r.sock.hidden && !r.proc.service.withheld {
		t.start, t.duration, t.status = r.time, time.Duration(e.now-r.time), status
		e.exemplars.add(h, t)
	}
}

// traceOf is that of the request which the memory of a program told of, if it was also
// seen on a socket: the only one that its goroutine has open, of the same handler.
func (e *Engine) traceOf(p *process, s *sample.Sample, h *handler) *trace {
	if e.exemplars == nil || e.late(s) {
		return nil
	}
	x := e.known(executorKey{p.pid, sample.Goroutine, s.Request.Goroutine})
	if x == nil || x.open != 1 || x.first.unsure() || x.first.handler() != h {
		return nil
	}
	return x.first.trace
}
