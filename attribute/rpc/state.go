// SPDX-License-Identifier: Apache-2.0

package rpc

import (
	"maps"

	"github.com/fleetprof/fleetprof/sample"
	"github.com/prometheus/client_golang/prometheus"
)

// counter is short for what is passed around to say why something ended.
type counter = prometheus.Counter

// request is one that was read and whose first response byte is not written.
type request struct {
	// serial is never used again; 0 once the request is over.
	serial uint64
	h      *handler
	proc   *process
	sock   *socket
	// reader is who read it, nil if that is nobody a sample can be bound to.
	reader *executor
	// open says that it is among the open requests of its reader. One that was
	// superseded is not, but its answer may still come.
	open bool
	// loop says that the reader serves it from an event loop.
	loop bool
	time uint64
	// identity is that of its method and path.
	identity uint64
	// stream is that of an HTTP/2 socket, 0 on others.
	stream uint32
	// headOnly says that the method is HEAD: the answer has no body.
	headOnly bool
	// uploads says that its body was not read with its head: reads that are not
	// reported lead to its answer, too.
	uploads bool
	// tied says that a request was written upstream for it.
	tied bool
	// doubtful says that what was read may have been part of a body, or of what its
	// reader got for another request. Its answer shows that it was none.
	doubtful bool
	// alone says that its reader, an event loop, never had another one beside it.
	alone bool
	// trace is nil for one without a traceparent.
	trace *trace
	// weight is how many requests it stands for: itself and those before it that
	// were passed over.
	weight int

	links              links[request] // by when they were read
	prevSock, nextSock *request
	prevOpen, nextOpen *request
}

// ref is a request that may be over by now.
type ref struct {
	r      *request
	serial uint64
}

// unsure reports whether nothing may be claimed for the request.
func (r *request) unsure() bool { return r.doubtful || r.sock.hidden }

func (r *request) ref() ref { return ref{r, r.serial} }

// get is the request if it is not over.
func (f ref) get() *request {
	if f.serial == 0 || f.r.serial != f.serial {
		return nil
	}
	return f.r
}

type executorKey struct {
	pid  uint32
	kind sample.ExecutorKind
	id   uint64
}

type executor struct {
	key   executorKey
	proc  *process
	links links[executor]

	first, last *request // open ones, in the order they were read
	open        int
	// latest is the serial of the request it read last, over or not.
	latest uint64

	// passes says that requests it reads are passed over, so that it may have an open
	// one that is not known.
	passes bool

	// run is the request that an event loop's turn is about since the last read;
	// resumed if that read was of an upstream answer, certain if the tie was.
	run              ref
	resumed, certain bool
	// from is the socket that resumed it.
	from uint64
	// waited says that it is known to call epoll_wait(2), turned is the serial of the
	// last request that was read by anybody when it last did.
	waited bool
	turned uint64
	// runs and strays count how requests of an event loop are answered: in the
	// run of their own, or out of the blue. stray is when that last happened.
	runs, strays uint32
	stray        uint64

	quiet quiet

	// bound is since when it may have worked on what it answers next.
	bound uint64
	// birth tells during which request of its parent a goroutine was first seen;
	// 0 if it was not.
	birth uint64

	pendFirst, pendLast int32
	pending             int
	// losses is how often activities were lost before it was last looked for.
	losses uint64
	// dead: it is forgotten, but superseded requests may still refer to it.
	dead bool
}

type process struct {
	pid     uint32
	service *service
	// final says that the service will not be another one; since and asked are when it was
	// first and last asked for.
	final        bool
	since, asked uint64
	executors    map[*executor]struct{}
	// same and handoff are when a request was last answered by who read it, and
	// by somebody else; 0 for never.
	same, handoff uint64
	// answers says that it answered a request. What others read that looks like one
	// is data.
	answers bool
	// routed says that its memory tells what its framework matched.
	routed bool
}

// handsOff reports whether requests of the process change hands these days.
func (p *process) handsOff(now uint64) bool {
	return p.handoff != 0 && now-p.handoff < uint64(handoffMemory)
}

// keeps reports whether who reads a request of the process answers it.
func (p *process) keeps(now uint64) bool { return p.same != 0 && !p.handsOff(now) }

// known finds an executor, nil if there is none. What it was at is not known any more
// if activities were lost since it was last looked for.
func (e *Engine) known(key executorKey) *executor {
	x := e.executors[key]
	if x != nil && x.losses != e.losses {
		x.run, x.quiet, x.losses = ref{}, quiet{}, e.losses
	}
	return x
}

// executor finds who executes, nil if that is nobody a request can be bound to.
func (e *Engine) executor(pid, tid uint32, x sample.Executor) *executor {
	key, ok := keyOf(pid, tid, x)
	if !ok {
		return nil
	}
	if found := e.known(key); found != nil {
		found.quiet.heard(e.now)
		e.executorList.touch(found)
		return found
	}
	if e.executorList.n >= maxExecutors {
		e.metrics.executorsEvicted.Inc()
		e.forgetExecutor(e.executorList.oldest)
	}
	made := &executor{key: key, proc: e.process(pid), losses: e.losses, pendFirst: none, pendLast: none}
	made.proc.executors[made] = struct{}{}
	e.executors[key] = made
	e.executorList.push(made)
	return made
}

func keyOf(pid, tid uint32, x sample.Executor) (key executorKey, ok bool) {
	switch x.Kind {
	case sample.Thread:
		return executorKey{pid, sample.Thread, uint64(tid)}, true
	case sample.Goroutine:
		return executorKey{pid, sample.Goroutine, x.Goroutine}, x.Goroutine != 0
	}
	return key, false
}

// forgetExecutor voids what an executor has read; with its last executor a
// process is forgotten too.
func (e *Engine) forgetExecutor(x *executor) {
	for x.first != nil {
		e.supersede(x.first)
	}
	e.settleAll(x)
	e.executorList.remove(x)
	delete(e.executors, x.key)
	delete(x.proc.executors, x)
	if len(x.proc.executors) == 0 {
		delete(e.processes, x.proc.pid)
	}
	x.run, x.dead = ref{}, true
}

func (e *Engine) process(pid uint32) *process {
	p := e.processes[pid]
	if p == nil {
		if len(e.processes) >= maxProcesses {
			maps.DeleteFunc(e.processes, func(_ uint32, p *process) bool { return len(p.executors) == 0 })
		}
		p = &process{pid: pid, since: e.now, executors: make(map[*executor]struct{})}
		e.processes[pid] = p
	}
	return e.identified(p)
}

// admit opens a request.
func (e *Engine) admit(s *socket, x *executor, p *process, h *handler) *request {
	if e.requestList.n >= maxRequests {
		// With those behind it: the next answer is not theirs.
		old := e.requestList.oldest.sock
		e.metrics.requestsDropped.Add(float64(old.n))
		e.endAll(old, e.metrics.void)
	}
	r := e.freeRequests
	if r != nil {
		e.freeRequests = r.nextSock
	} else {
		r = new(request)
	}
	e.serial++
	*r = request{serial: e.serial, h: h, proc: p, sock: s, reader: x, time: e.now, prevSock: s.last, weight: 1 + s.passed}
	s.passed = 0
	e.requestList.push(r)
	if s.last != nil {
		s.last.nextSock = r
	} else {
		s.first = r
	}
	s.last = r
	s.n++
	s.known = true
	if x != nil {
		r.alone = e.opens(x, s)
		r.open, r.prevOpen = true, x.last
		if x.last != nil {
			x.last.nextOpen = r
		} else {
			x.first = r
		}
		x.last = r
		x.open++
		x.latest = r.serial
	}
	return r
}

// shut takes a request from the open ones of its reader.
func (r *request) shut(now uint64) {
	if !r.open {
		return
	}
	x := r.reader
	if r.prevOpen != nil {
		r.prevOpen.nextOpen = r.nextOpen
	} else {
		x.first = r.nextOpen
	}
	if r.nextOpen != nil {
		r.nextOpen.prevOpen = r.prevOpen
	} else {
		x.last = r.prevOpen
	}
	r.open, r.prevOpen, r.nextOpen = false, nil, nil
	x.open--
	x.closes(r, now)
}

// free counts a request, now that nothing more can be learned of it, and forgets
// it. Samples that wait for it must be settled before.
func (e *Engine) free(r *request) {
	s := r.sock
	if r.doubtful || !r.proc.answers {
		s.passed += r.weight - 1
	} else {
		s.handler = r.handler()
		s.handler.requests.Add(float64(r.weight))
	}
	r.shut(e.now)
	if r.prevSock != nil {
		r.prevSock.nextSock = r.nextSock
	} else {
		s.first = r.nextSock
	}
	if r.nextSock != nil {
		r.nextSock.prevSock = r.prevSock
	} else {
		s.last = r.prevSock
	}
	if r.stream != 0 {
		delete(e.streams, streamKey{s.id, r.stream})
	}
	s.n--
	e.requestList.remove(r)
	*r = request{nextSock: e.freeRequests}
	e.freeRequests = r
}
