// SPDX-License-Identifier: Apache-2.0

package rpc

import (
	"bytes"

	"github.com/fleetprof/fleetprof/sample"
)

// requestBytes takes what was read from a socket that may be a server's.
func (e *Engine) requestBytes(s *socket, a *sample.Activity) {
	x := e.executor(a.PID, a.TID, a.Executor)
	data, total := a.Data, a.Bytes
	if s.body != 0 {
		if s.body < 0 || s.body >= total {
			s.body = max(s.body-total, min(s.body, 0))
			e.bodyRead(s, x)
			return
		}
		data, total = data[min(s.body, int64(len(data))):], total-s.body
		s.body = 0
	}
	if len(s.glue) > 0 {
		data, total = e.glued(s, x, a, data, total)
		if s.body != 0 {
			e.readMore(s, x)
			return
		}
	}
	switch {
	case !isPreface(data):
	case s.n == 0 && !s.known && s.handler == nil:
		e.startHTTP2(s, a, Fresh)
		return
	case s.n == 1 && s.upgradeH2C:
		e.abandon(s.last, e.metrics.void) // 101 was not seen, nor perhaps what followed it
		e.startHTTP2(s, a, Upgraded)
		e.missWrites(s)
		return
	}
	opened := e.requestHeads(s, x, a, data, total)
	switch {
	case s.role == unknownRole && len(s.glue) == 0:
		e.forgetSocket(s, e.metrics.void)
	case opened == 0:
		e.readMore(s, x)
	case !isLoop(x, a):
	case opened == 1 && !s.pipelined:
		e.beginRun(x, s.last, false, true)
	default:
		e.endRun(x)
	}
}

// bodyRead takes that more of the last request of a socket was read.
func (e *Engine) bodyRead(s *socket, x *executor) {
	if r := s.last; r != nil && r.loop && r.reader == x && s.n == 1 {
		e.beginRun(x, r, false, true)
		return
	}
	e.readMore(s, x)
}

// readMore takes that something was read from a socket that opened no request:
// an event loop goes on with that socket.
func (e *Engine) readMore(s *socket, x *executor) {
	if x == nil || x.run.serial == 0 {
		return
	}
	if r := x.run.get(); r == nil || r.sock != s {
		e.endRun(x)
	}
}

// glued puts bytes behind those that were read before, if they make a head
// together. Go's net/http reads one byte on a goroutine of its own to learn when
// a client goes away (startBackgroundRead in net/http/server.go).
func (e *Engine) glued(s *socket, x *executor, a *sample.Activity, data []byte, total int64) ([]byte, int64) {
	before := int64(len(s.glue))
	e.joined = append(append(e.joined[:0], s.glue...), data...)
	h, v := parseRequest(e.joined, total > int64(len(data)))
	if v == valid && knownMethod(h.method) || v == partial {
		s.glue = s.glue[:0]
		return e.joined, total + before
	}
	if before > 1 {
		// What came in between was not reported.
		s.hidden = true
		if e.torn(s, x, a) && s.last.uploads {
			s.body = unknownLength // this is a part of it
		}
	}
	s.glue = s.glue[:0]
	return data, total
}

// torn opens the request whose head was kept in part and whose rest was not seen,
// and reports whether there is one.
func (e *Engine) torn(s *socket, x *executor, a *sample.Activity) bool {
	h, v := parseRequest(s.glue, true)
	s.glue = s.glue[:0]
	if v != valid || s.role == client || s.n >= maxQueued {
		return false
	}
	s.role = server
	e.request(s, x, a, &h)
	s.last.uploads, s.last.time = h.length != 0, s.glueTime
	return true
}

// requestHeads opens a request for each head in the bytes of a read.
func (e *Engine) requestHeads(s *socket, x *executor, a *sample.Activity, data []byte, total int64) (opened int) {
	for total > 0 {
		if opened > 0 {
			data, total = skipEmptyLines(data, total)
		}
		if len(data) == 0 {
			if total > 0 {
				e.pipelines(s)
				s.hidden = true
			}
			return opened
		}
		h, v := parseRequest(data, total > int64(len(data)))
		switch v {
		case partial:
			e.keep(s, data)
			return opened
		case malformed:
			e.metrics.malformed.Inc()
			return opened
		case foreign:
			return opened
		}
		if s.role == unknownRole {
			s.role = server
		}
		if s.n >= maxQueued {
			e.metrics.requestsDropped.Add(float64(s.n))
			e.endAll(s, e.metrics.void)
			s.proto = noProtocol
			return 0
		}
		e.request(s, x, a, &h)
		opened++
		end, known := messageEnd(&h, data)
		if !known {
			s.body, s.cut = unknownLength, true
			if h.end < 0 && h.length == 0 && !h.chunked {
				s.body = 0
			}
			s.last.uploads = s.body != 0
			s.hidden = s.hidden || s.pipelined && total > int64(len(data))
			return opened
		}
		if end > total {
			s.body, s.last.uploads, s.cut = end-total, true, true
			return opened
		}
		data, total = data[min(end, int64(len(data))):], total-end
	}
	if s.watched && !s.pipelined && !s.hidden && opened > 0 {
		e.watch(s, false)
	}
	return opened
}

// messageEnd is where a request ends, if that can be told: bytes from the
// beginning of its head.
func messageEnd(h *head, data []byte) (end int64, known bool) {
	switch {
	case h.end < 0:
		return 0, false
	case h.chunked:
		n, ok := skipChunks(data[h.end:])
		return int64(h.end + n), ok
	case h.length < 0:
		return 0, false
	}
	return int64(h.end) + h.length, true
}

// skipEmptyLines: RFC 9112 section 2.2, some old clients send one after a body.
func skipEmptyLines(data []byte, total int64) ([]byte, int64) {
	for bytes.HasPrefix(data, crlf) {
		data, total = data[len(crlf):], total-int64(len(crlf))
	}
	return data, total
}

// keep remembers the beginning of a head until the rest is read.
func (e *Engine) keep(s *socket, data []byte) {
	if len(data) > maxGlue {
		e.metrics.malformed.Inc()
		return
	}
	s.glue, s.glueTime = append(s.glue[:0], data...), e.now
	if len(data) > 1 && s.role != client {
		e.watch(s, true)
	}
}

// watch asks for everything that moves on a socket, or ends that.
func (e *Engine) watch(s *socket, everything bool) {
	if s.watched != everything {
		s.watched = everything
		e.options.Watch(s.id, everything)
	}
}

// pipelines takes that a client does not wait for answers.
func (e *Engine) pipelines(s *socket) {
	s.pipelined = true
	e.watch(s, true)
}

// request opens the request of a head.
func (e *Engine) request(s *socket, x *executor, a *sample.Activity, h *head) {
	loop := isLoop(x, a)
	doubtful := s.doubt || !loop && x.elsewhere(s)
	if s.n > 0 {
		e.pipelines(s)
		doubtful = e.doubted(s) || doubtful
	} else if !s.pipelined {
		s.rest = 0
	}
	if x != nil {
		x.bound = e.now
		x.passes = s.passed > 0 || x.passes
	}
	p := e.processOf(x, a.PID)
	found, identity := e.handlers.path(p.service, h.method, h.target, h.cut)
	r := e.admit(s, x, p, found)
	r.identity, r.loop, r.doubtful = identity, loop, doubtful
	if !doubtful {
		e.nextRequest(r)
	}
	r.headOnly = string(h.method) == "HEAD"
	s.upgradeH2C = h.upgradeH2C
	e.carries(r, h.traceparent, h.end >= 0)
}

func (e *Engine) processOf(x *executor, pid uint32) *process {
	if x != nil {
		return e.identified(x.proc)
	}
	return e.process(pid)
}

// doubted takes that another head was read from a socket, and reports whether the last
// request of it is doubtful. Then that was part of a body, and this may be, or they are
// two requests at once.
func (e *Engine) doubted(s *socket) bool {
	if !s.last.doubtful {
		return false
	}
	s.hidden = true
	e.abandon(s.last, e.metrics.void)
	return true
}

// elsewhere reports whether a thread whose sockets block has a request from another
// socket, and what it reads from this one may be what it needs for that: nothing that was
// read from it was answered.
func (x *executor) elsewhere(s *socket) bool {
	return x != nil && x.key.kind == sample.Thread && s.handler == nil &&
		x.last != nil && x.last.sock != s && !x.last.loop
}

// nextRequest takes that a thread whose sockets block has read a request from one
// of them: it is done with those of others that it had before, but for streams of
// HTTP/2, of which it may have many.
func (e *Engine) nextRequest(r *request) {
	if x := r.reader; x == nil || !r.open || r.loop || x.key.kind != sample.Thread {
		return
	}
	for old := r.prevOpen; old != nil && old.serial > r.reader.turned; { // those before are a loop's
		previous := old.prevOpen
		if old.sock != r.sock && !old.loop && old.stream == 0 {
			e.supersede(old)
		}
		old = previous
	}
}
