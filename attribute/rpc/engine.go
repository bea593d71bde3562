// SPDX-License-Identifier: Apache-2.0

package rpc

import (
	"errors"
	"math/rand/v2"
	"time"

	"github.com/fleetprof/fleetprof/attribute/rpc/http2"
	"github.com/fleetprof/fleetprof/sample"
	"github.com/prometheus/client_golang/prometheus"
)

const (
	// handoffMemory is for how long a process counts as one whose requests
	// change hands since one last did.
	handoffMemory = 60 * time.Second
	// strayMemory is for how long an event loop is not trusted since it last
	// answered a request that nothing it read then led to.
	strayMemory = 60 * time.Second
	// patience is how long a sample waits for the answer of its request. With
	// 99 samples a second and CPU it bounds how many wait.
	patience = 2 * time.Second
	// requestIdle and socketIdle are when something that was not heard of again
	// is taken for over: ten minutes are longer than proxies let requests take.
	requestIdle = 10 * time.Minute
	socketIdle  = 10 * time.Minute

	// The bounds of the tables. A host with 10,000 connections is common, with
	// 16,384 busy ones rare; an entry is 200 to 300 bytes.
	maxSockets   = 16384
	maxExecutors = 16384
	maxProcesses = 2 * maxExecutors // those without executors are swept out then
	maxRequests  = 32768
	// maxQueued bounds the unanswered requests of one HTTP/1 socket, maxStreams
	// those of an HTTP/2 one (RFC 9113 recommends to allow 100).
	maxQueued  = 64
	maxStreams = 1000
	maxFree    = 1024
	// maxDecoderMemory bounds what the decoders of HTTP/2 connections hold together.
	// A busy connection takes about 10 KiB, a hostile one up to 400 KiB.
	// decoderBytes is one that has seen nothing.
	maxDecoderMemory = 16 << 20
	decoderBytes     = 600
	// maxPending bounds the samples that wait: 64 threads at 99 per second for
	// patience are 12,672, at some 100 bytes each.
	maxPending = 16384
	// maxGlue bounds what is kept of a head that comes in parts.
	maxGlue = 512
)

// Options are what an Engine needs. Identify, Watch and Registerer must be set.
type Options struct {
	// Identify says what the requests of a process count as. It is called when its first
	// one is seen, and with later ones until its answer is final. settled says that this
	// one will be taken for that.
	Identify func(pid uint32, settled bool) Identity
	// Watch asks the kernel side to report every read and write of a socket with
	// more of their bytes, or only what looks like a head again. It may take effect
	// late or never.
	Watch      func(socket uint64, everything bool)
	Registerer prometheus.Registerer
	// RoutesPerService bounds the handlers of a service that are told apart; the
	// rest is `other`. 0 is 500.
	RoutesPerService int
	// Exemplars is how many requests with a traceparent are kept for each handler
	// until Engine.Exemplars; with 0 nobody looks for one.
	Exemplars int
	// NewDecoder makes a decoder for an HTTP/2 connection; nil is that of
	// attribute/rpc/http2.
	NewDecoder func(Start) Decoder
}

// Engine binds samples to requests. It is not safe for concurrent use.
// Activities and samples must come in the order of their times; a sample that comes
// late is judged by the program's memory only.
type Engine struct {
	options  Options
	handlers *handlers
	metrics  engineMetrics
	now      uint64
	// losses is how often activities were lost, and lostAt when they last were.
	losses, lostAt uint64

	sockets    map[uint64]*socket
	socketList recency[socket]
	// decoderList are the sockets with a decoder, which hold decoderMemory bytes.
	decoderList   recency[socket]
	decoderMemory int
	freeSockets   []*socket
	executors     map[executorKey]*executor // for known
	executorList  recency[executor]
	processes     map[uint32]*process

	requestList  recency[request]
	freeRequests *request
	streams      map[streamKey]*request
	serial       uint64

	follows follows
	waiting waiting
	// exemplars is nil if nobody asks for them.
	exemplars *exemplars
	joined    []byte // scratch: a head put together
	// events are those of one call of a Decoder, and emit adds to them.
	events []http2.Event
	emit   func(http2.Event)
}

// New returns an Engine that knows of no request.
func New(o Options) (*Engine, error) {
	if o.Identify == nil || o.Watch == nil || o.Registerer == nil {
		return nil, errors.New("rpc: Options lack Identify, Watch or Registerer")
	}
	if o.RoutesPerService == 0 {
		o.RoutesPerService = 500
	}
	if o.NewDecoder == nil {
		o.NewDecoder = newDecoder
	}
	e := &Engine{
		options:   o,
		handlers:  newHandlers(o.RoutesPerService, newRequestMetrics(o.Registerer)),
		metrics:   newEngineMetrics(o.Registerer),
		sockets:   make(map[uint64]*socket),
		executors: make(map[executorKey]*executor),
		streams:   make(map[streamKey]*request),
		processes: make(map[uint32]*process),
		waiting:   waiting{free: none, first: none, last: none},
	}
	if o.Exemplars > 0 {
		random := rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
		e.exemplars = newExemplars(o.Exemplars, random, e.metrics.exemplarsLeftOut)
	}
	e.emit = func(v http2.Event) { e.events = append(e.events, v) }
	e.socketList.link = func(s *socket) *links[socket] { return &s.links }
	e.decoderList.link = func(s *socket) *links[socket] { return &s.decoders }
	e.requestList.link = func(r *request) *links[request] { return &r.links }
	e.executorList.link = func(x *executor) *links[executor] { return &x.links }
	return e, nil
}

// Activity takes what a thread did. Data is not kept.
func (e *Engine) Activity(a *sample.Activity) {
	e.advance(a.Time)
	switch a.Kind {
	case sample.Close:
		if s := e.sockets[a.Socket]; s != nil {
			e.pass(s, a)
			if s.handler != nil {
				s.handler.requests.Add(float64(s.passed))
			}
			e.forgetSocket(s, e.metrics.closed)
		}
	case sample.Wait:
		if key, ok := keyOf(a.PID, a.TID, a.Executor); ok && key.kind == sample.Thread {
			if x := e.known(key); x != nil {
				e.turn(x)
			}
		}
	case sample.Read, sample.Write:
		switch {
		case a.Bytes < int64(len(a.Data)):
		case len(a.Data) > 0:
			e.transfer(a)
		default:
			e.unread(a)
		}
	}
}

// unread takes bytes that moved and could not be read: there may have been anything.
func (e *Engine) unread(a *sample.Activity) {
	switch s := e.sockets[a.Socket]; {
	case s == nil:
	case s.proto == http2Protocol:
		e.frames(s, a)
		e.endAll(s, e.metrics.void)
		s.missed = true
	default:
		s.hidden = true
	}
}

// transfer takes bytes that moved.
func (e *Engine) transfer(a *sample.Activity) {
	s := e.sockets[a.Socket]
	if s == nil {
		if !beginning(a) {
			return
		}
		s = e.socket(a.Socket)
		if a.Kind == sample.Read && http2.Plausible(a.Data) {
			e.startHTTP2(s, a, Joined)
			return
		}
	} else {
		s.used = e.now
		e.socketList.touch(s)
	}
	e.pass(s, a)
	switch {
	case s.proto == noProtocol:
	case s.proto == http2Protocol:
		e.frames(s, a)
	case a.Kind == sample.Read && s.role == client:
		e.upstreamAnswer(s, a)
	case a.Kind == sample.Read:
		e.requestBytes(s, a)
	case s.role == server, s.role == unknownRole && len(s.glue) > 1:
		e.answerBytes(s, a)
	default:
		e.upstreamRequest(s, a)
	}
}

// pass takes that requests of a socket were passed over. They count like the one that
// is seen next.
func (e *Engine) pass(s *socket, a *sample.Activity) {
	s.passed += a.Passed
	e.metrics.passed.Add(float64(a.Passed))
}

// beginning reports whether a socket is worth to be known from these bytes on.
func beginning(a *sample.Activity) bool {
	if a.Kind == sample.Write {
		_, v := parseRequest(a.Data, a.Bytes > int64(len(a.Data)))
		return v == valid || isPreface(a.Data)
	}
	c := a.Data[0]
	return 'A' <= c && c <= 'Z' && !hasPrefix(a.Data, "HTTP/") || http2.Plausible(a.Data)
}

func hasPrefix(b []byte, prefix string) bool {
	return len(b) >= len(prefix) && string(b[:len(prefix)]) == prefix
}

// LostActivities says that n activities did not arrive: nothing is known about
// open requests any more. What was learned about programs stays.
func (e *Engine) LostActivities(n uint64) {
	e.metrics.lost.Add(float64(n))
	for e.waiting.first != none {
		i := e.waiting.first
		v := unattributed()
		if w := &e.waiting.all[i]; w.about.get() != nil {
			v = ambiguous(w.owner)
		}
		e.settle(i, v)
	}
	// Of what was not heard of since the last time nothing is left to forget: threads may
	// make every other activity be lost.
	for s := e.socketList.newest; s != nil && s.used >= e.lostAt; s = s.links.older {
		e.endAll(s, e.metrics.void)
		s.known, s.glue, s.tie, s.about, s.waiting = false, s.glue[:0], ref{}, ref{}, 0
		s.missed = true
		if s.proto == http2Protocol && s.decoder != nil {
			s.decoder.Lost(http2.Read, ignore)
			s.decoder.Lost(http2.Write, ignore)
		}
	}
	e.losses++
	e.lostAt = e.now
}

func ignore(http2.Event) {}

// Exited says that a process ended or executes another program.
func (e *Engine) Exited(pid uint32) {
	p := e.processes[pid]
	if p == nil {
		return
	}
	for x := range p.executors {
		e.forgetExecutor(x)
	}
	delete(e.processes, pid)
}

// advance moves the time on, and drops what is overdue.
func (e *Engine) advance(now uint64) {
	if now <= e.now {
		return
	}
	e.now = now
	for i := e.waiting.first; i != none && now-e.waiting.all[i].time > uint64(patience); i = e.waiting.first {
		e.settle(i, e.overdue(i))
	}
	for s := e.socketList.oldest; s != nil && now-s.used > uint64(socketIdle); s = e.socketList.oldest {
		e.forgetSocket(s, e.metrics.idle)
	}
}

// abandon ends a request that was not answered.
func (e *Engine) abandon(r *request, by counter) {
	by.Inc()
	if r.reader != nil {
		e.settleAbout(r)
	}
	e.free(r)
}

// supersede takes a request for over whose answer may still come.
func (e *Engine) supersede(r *request) {
	e.metrics.superseded.Inc()
	e.settleAbout(r)
	r.shut(e.now)
}

// turn takes that a thread begins to wait for events.
func (e *Engine) turn(x *executor) {
	x.waited, x.bound = true, e.now
	x.quiet.heard(e.now)
	e.follow(x)
	// A thread that has an epoll instance of its own serves its requests by
	// events even if their sockets block.
	for r := x.last; r != nil && r.serial > x.turned; r = r.prevOpen {
		r.loop = true
	}
	x.turned = e.serial
	e.endRun(x)
}

// endRun says that what an event loop does from here on is no more the request
// it did until now.
func (e *Engine) endRun(x *executor) {
	if x.run.serial == 0 {
		return
	}
	run := x.run
	x.run = ref{}
	if x.pending > 0 {
		e.settleRun(x, run.get())
	}
}

// beginRun says that what an event loop does from here on is a request, because
// it read something of it.
func (e *Engine) beginRun(x *executor, r *request, resumed, certain bool) {
	e.endRun(x)
	x.run, x.resumed, x.certain = r.ref(), resumed, certain
}

// isLoop reports whether an executor that reads or writes a socket does so in an
// event loop. Go's sockets never block, but its goroutines do.
func isLoop(x *executor, a *sample.Activity) bool {
	return x != nil && a.Nonblocking && x.key.kind == sample.Thread
}

// finish takes that the first byte of an answer is written, by x or, if it is
// nil, by somebody unknown.
func (e *Engine) finish(r *request, x *executor, status int) {
	e.metrics.answered.Inc()
	r.proc.answers = true
	e.believe(r)
	h := r.handler()
	for range r.weight {
		h.duration.Observe(time.Duration(e.now - r.time).Seconds())
	}
	if status >= 500 {
		h.errors.Add(float64(r.weight))
	}
	e.exemplify(r, h, status)
	reader := r.reader
	if reader == nil || reader.dead || x == nil {
		e.abandonReader(r)
		e.free(r)
		return
	}
	if reader == x {
		x.proc.same = max(e.now, 1)
		e.settleSame(x, r)
	} else {
		reader.proc.handoff, x.proc.handoff = max(e.now, 1), max(e.now, 1)
		e.settleAbout(r)
		if x.run.get() != nil {
			e.endRun(x)
		}
	}
	e.settleAnswered(x, r)
	x.bound = e.now
	x.quiet.answered, x.quiet.socket = e.now, r.sock.id
	e.free(r)
}

// believe takes that a request was one.
func (e *Engine) believe(r *request) {
	if r.doubtful {
		r.doubtful, r.sock.doubt = false, false
		e.nextRequest(r)
	}
}

// abandonReader settles what waits for a request of which nobody knows who
// answered it.
func (e *Engine) abandonReader(r *request) {
	if r.reader != nil && !r.reader.dead {
		e.settleAbout(r)
	}
}
