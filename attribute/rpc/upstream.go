// SPDX-License-Identifier: Apache-2.0

package rpc

import (
	"time"

	"github.com/fleetprof/fleetprof/sample"
)

// upstreamRequest takes what was written to a socket that may be a client's. A
// request there belongs to the one that the event loop is busy with, and the
// answer to it will be about that one again.
func (e *Engine) upstreamRequest(s *socket, a *sample.Activity) {
	if isPreface(a.Data) {
		s.role, s.proto = client, noProtocol
		return
	}
	h, v := parseRequest(a.Data, a.Bytes > int64(len(a.Data)))
	if v != valid {
		return
	}
	s.role = client
	s.waiting++
	s.tie = ref{}
	x := e.executor(a.PID, a.TID, a.Executor)
	if x == nil || x.first == nil || !x.first.loop || s.waiting > 1 {
		return
	}
	r, certain := x.run.get(), x.certain
	switch {
	case r != nil && r.doubtful:
		return
	case r != nil:
		x.runs++
		e.settleBracket(x, r)
	default:
		if r, certain = e.untied(x, &h), false; r == nil {
			return
		}
	}
	r.tied = true
	s.tie, s.tieCertain, s.tieHandler = r.ref(), certain, r.h
}

// maxSearched bounds the open requests of an event loop among which one is looked for.
const maxSearched = 1024

// untied finds the open request that one to an upstream was written for, though
// it was not written right after reading that (a connection had to be made
// first): the only one there is, or the oldest that asks for the same. Which of
// these it was does not matter, as they have one handler.
func (e *Engine) untied(x *executor, h *head) *request {
	if x.open == 1 && !x.first.doubtful {
		return x.first
	}
	if x.open > maxSearched {
		return nil
	}
	identity := e.handlers.identity(x.proc.service, byTemplate, h.method, h.target)
	for r := x.first; r != nil; r = r.nextOpen {
		if !r.tied && !r.doubtful && r.identity == identity {
			return r
		}
	}
	return nil
}

// upstreamAnswer takes what was read from a client's socket.
func (e *Engine) upstreamAnswer(s *socket, a *sample.Activity) {
	if s.watched {
		e.followed()
	}
	answer, ok := parseResponse(a.Data)
	if !ok {
		e.upstreamBody(s, a)
		return
	}
	if answer.status < 200 {
		return
	}
	x := e.executor(a.PID, a.TID, a.Executor)
	r := s.tie.get()
	if r == nil && x != nil && s.tie.serial != 0 && !s.tieCertain {
		r = x.alike(s.tieHandler)
	}
	s.tie, s.tieHandler, s.about = ref{}, nil, ref{}
	s.waiting = max(s.waiting-1, 0)
	switch {
	case x == nil || x.key.kind != sample.Thread:
	case r != nil && r.reader == x && r.loop:
		s.about = r.ref()
		e.beginRun(x, r, true, s.tieCertain)
		x.from = s.id
	default:
		e.endRun(x)
	}
}

// upstreamBody takes more of an answer. It is reported on sockets that are followed.
func (e *Engine) upstreamBody(s *socket, a *sample.Activity) {
	x := e.executor(a.PID, a.TID, a.Executor)
	if x == nil || x.key.kind != sample.Thread {
		return
	}
	switch r := s.about.get(); {
	case r == nil || r.reader != x:
		e.endRun(x)
	case r != x.run.get():
		e.beginRun(x, r, true, s.tieCertain)
		x.from = s.id
	}
}

// follow asks for all of an upstream answer that did not come in one turn of the
// loop: the rest of it leads back to its request, too.
func (e *Engine) follow(x *executor) {
	s := e.sockets[x.from]
	if x.run.get() != nil && x.resumed && s != nil && s.role == client && e.now >= e.follows.pause {
		e.watch(s, true)
	}
}

// follows bounds what following costs.
type follows struct {
	since, pause uint64
	reads        int
}

const (
	// maxFollowed is how many reads a second may be reported of sockets that are
	// followed: at 4,096 bytes each, 16 MiB.
	maxFollowed = 4096
	// followPause is for how long nothing is followed after more.
	followPause = time.Minute
)

// followed takes a read of a socket that is followed.
func (e *Engine) followed() {
	f := &e.follows
	if e.now-f.since > uint64(time.Second) {
		f.since, f.reads = e.now, 0
	}
	if f.reads++; f.reads <= maxFollowed {
		return
	}
	f.pause = e.now + uint64(followPause)
	for s := e.socketList.newest; s != nil; s = s.links.older {
		if s.role == client {
			e.watch(s, false)
		}
	}
}

// alike finds the oldest open request of a handler that was sent on.
func (x *executor) alike(h *handler) *request {
	if x.open > maxSearched {
		return nil
	}
	for r := x.first; r != nil; r = r.nextOpen {
		if r.h == h && r.tied {
			return r
		}
	}
	return nil
}
