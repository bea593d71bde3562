// SPDX-License-Identifier: Apache-2.0

package rpc

import "github.com/fleetprof/fleetprof/sample"

// answerBytes takes what was written to a server's socket.
func (e *Engine) answerBytes(s *socket, a *sample.Activity) {
	data, total := e.behindRest(s, a)
	answer, ok := parseResponse(data)
	if !ok {
		return
	}
	x := e.executor(a.PID, a.TID, a.Executor)
	for ok {
		if answer.status == 101 && s.n > 0 {
			e.switchProtocols(s, x, a, data, total, answer)
			return
		}
		end := int64(-1)
		if answer.status >= 200 {
			if s.n == 0 && len(s.glue) > 1 && !e.torn(s, nil, a) {
				s.role, s.known, s.hidden = server, true, true // less than a method was seen of it
				e.pipelines(s)
			}
			headOnly, matched := e.answered(s, x, a.PID, answer.status)
			if !matched || s.proto == noProtocol {
				return
			}
			if headOnly {
				answer.length = 0
			}
		}
		if answer.end >= 0 && answer.length >= 0 {
			end = int64(answer.end) + answer.length
		}
		more := s.n > 0 || s.pipelined || answer.status < 200
		if !more || end == total {
			return
		}
		if end < 0 || end >= int64(len(data)) && end < total {
			s.hidden = true // where the next answer begins cannot be told
			return
		}
		if end > total {
			s.rest, s.bare = end-total, total == int64(answer.end)
			return
		}
		data, total = data[end:], total-end
		answer, ok = parseResponse(data)
	}
}

// behindRest is what was written behind the rest of an answer. A head in that is content,
// or writes were not reported: then nobody knows what is answered any more. Where nothing
// but the head of an answer was seen, its content went by sendfile(2) more likely than it
// is a head itself.
func (e *Engine) behindRest(s *socket, a *sample.Activity) (data []byte, total int64) {
	data, total = a.Data, a.Bytes
	if s.rest == 0 {
		return data, total
	}
	_, answers := parseResponse(data)
	if answers && s.bare {
		s.hidden, s.rest = true, 0
		return data, total
	}
	s.bare = false
	in := min(s.rest, total)
	s.rest -= in
	s.hidden = s.hidden || answers || in < total && in >= int64(len(data))
	return data[min(in, int64(len(data))):], total - in
}

// answered takes the answer to the oldest request of a socket.
func (e *Engine) answered(s *socket, x *executor, pid uint32, status int) (headOnly, matched bool) {
	r := s.first
	if r == nil {
		e.metrics.unmatched.Inc()
		if s.known && (s.cut || s.hidden) {
			// It is part of an answer, or to a request that was not seen: one that came
			// with another, or behind a body.
			s.hidden = true
			e.watch(s, true)
		}
		if s.known && s.pipelined && s.hidden {
			h := e.processOf(x, pid).known(e.handlers.unknown(e.processOf(x, pid).service))
			h.requests.Inc()
			if status >= 500 {
				h.errors.Inc()
			}
		}
		return false, false
	}
	headOnly = r.headOnly
	if status < 300 && r.h.labels.HTTPMethod == "CONNECT" {
		s.proto = noProtocol
	}
	e.finish(r, x, status)
	if s.n == 0 {
		s.doubt, s.body = s.body != 0, 0
	}
	if s.proto == noProtocol {
		e.endAll(s, e.metrics.void)
	}
	return headOnly, true
}

// switchProtocols takes the answer 101: what follows is HTTP/2, or no HTTP at all.
func (e *Engine) switchProtocols(s *socket, x *executor, a *sample.Activity, data []byte, total int64, answer response) {
	switch {
	case !s.upgradeH2C || s.n != 1:
		e.finish(s.first, x, answer.status)
		e.endAll(s, e.metrics.void)
		s.proto = noProtocol
		return
	case answer.end < 0:
		// What follows may hold the answer proper.
		e.finish(s.first, x, answer.status)
		s.body = 0
		e.toHTTP2(s, Upgraded)
		e.missWrites(s)
		return
	}
	rest := *a
	rest.Data, rest.Bytes = data[answer.end:], total-int64(answer.end)
	s.body = 0
	e.onStream(s.first, 1)
	e.startHTTP2(s, &rest, Upgraded)
}
