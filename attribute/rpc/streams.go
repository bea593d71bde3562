// SPDX-License-Identifier: Apache-2.0

package rpc

import (
	"strconv"
	"strings"

	"github.com/fleetprof/fleetprof/attribute/rpc/http2"
	"github.com/fleetprof/fleetprof/sample"
)

// Decoder tells of the requests on an HTTP/2 connection, as http2.Conn does.
type Decoder interface {
	// Feed takes the bytes of one read or write: data is the first of total.
	Feed(dir http2.Direction, data []byte, total int64, emit func(http2.Event))
	// Lost says that calls of a direction were missed.
	Lost(dir http2.Direction, emit func(http2.Event))
	// Answering reports whether an answer in a direction has begun and not ended.
	Answering(dir http2.Direction) bool
	// Bytes is about how much memory it holds.
	Bytes() int
	// Over reports whether nothing more will come of the connection.
	Over() bool
}

// Start is how a connection came to be HTTP/2.
type Start uint8

const (
	// Fresh: its first bytes are fed.
	Fresh Start = iota
	// Joined: its beginning was not seen.
	Joined
	// Upgraded: from HTTP/1.1; stream 1 is the request that asked for it.
	Upgraded
)

func newDecoder(s Start) Decoder {
	switch s {
	case Upgraded:
		return http2.NewUpgraded()
	case Joined:
		return http2.New(true)
	}
	return http2.New(false)
}

// isPreface reports whether bytes are the beginning of an HTTP/2 connection,
// RFC 9113 section 3.4.
func isPreface(b []byte) bool {
	const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	return len(b) >= len("PRI ") && (hasPrefix(b, preface) || len(b) < len(preface) && preface[:len(b)] == string(b))
}

// startHTTP2 begins to follow an HTTP/2 connection of a server.
func (e *Engine) startHTTP2(s *socket, a *sample.Activity, how Start) {
	e.toHTTP2(s, how)
	e.frames(s, a)
}

func (e *Engine) toHTTP2(s *socket, how Start) {
	s.role, s.proto, s.decoder = server, http2Protocol, e.options.NewDecoder(how)
	e.watch(s, true)
	s.unwritten, s.missed = how == Fresh, how == Joined
}

// missWrites takes that what was written to a connection until now was not seen.
func (e *Engine) missWrites(s *socket) {
	s.missed = true
	if s.decoder != nil {
		s.decoder.Lost(http2.Write, ignore)
		e.weigh(s)
	}
}

// crowded reports whether a thread that has one open request of an HTTP/2 connection may
// be at another one: at an answer that it has begun, or at a stream that was not seen.
func (s *socket) crowded() bool {
	return s.proto == http2Protocol && (s.missed || s.decoder == nil || s.decoder.Answering(http2.Write))
}

// isSettings reports whether bytes begin with the frame that a server sends first,
// RFC 9113 section 3.4.
func isSettings(b []byte) bool { return len(b) >= 9 && b[3] == 4 && b[4] == 0 }

// frames takes bytes of an HTTP/2 connection.
func (e *Engine) frames(s *socket, a *sample.Activity) {
	if s.decoder == nil { // it had to give way
		s.decoder, s.unwritten, s.missed = e.options.NewDecoder(Joined), false, true
	}
	x := e.executor(a.PID, a.TID, a.Executor)
	dir := http2.Read
	if a.Kind == sample.Write {
		dir = http2.Write
		if s.unwritten && !isSettings(a.Data) {
			// A server may write before it reads; that was not seen.
			s.decoder.Lost(http2.Write, ignore)
		}
		s.unwritten = false
	}
	s.decoder.Feed(dir, a.Data, a.Bytes, e.emit)
	e.weigh(s)
	opened := 0
	for i := range e.events {
		if e.event(s, x, a, &e.events[i]) {
			opened++
		}
	}
	clear(e.events)
	e.events = e.events[:0]
	switch {
	case s.decoder.Over():
		e.endAll(s, e.metrics.void)
		s.proto = noProtocol
		e.dropDecoder(s)
		e.watch(s, false)
	case dir != http2.Read || !isLoop(x, a):
	case opened == 1 && s.last != nil && s.last.reader == x:
		e.beginRun(x, s.last, false, true)
	default:
		e.endRun(x)
	}
}

// weigh keeps what all decoders hold within its bound: those of the connections
// that were not heard of for the longest time begin anew, in the middle.
func (e *Engine) weigh(s *socket) {
	now := s.decoder.Bytes() + decoderBytes
	e.decoderMemory += now - s.decoderMemory
	if s.decoderMemory == 0 {
		e.decoderList.push(s)
	} else {
		e.decoderList.touch(s)
	}
	s.decoderMemory = now
	for e.decoderMemory > maxDecoderMemory && e.decoderList.n > 1 {
		old := e.decoderList.oldest
		e.metrics.decodersDropped.Inc()
		e.endAll(old, e.metrics.void)
		e.dropDecoder(old)
	}
}

// dropDecoder forgets what a socket's decoder knows. If more comes, it begins anew.
func (e *Engine) dropDecoder(s *socket) {
	s.decoder = nil
	if s.decoderMemory != 0 {
		e.decoderMemory -= s.decoderMemory
		s.decoderMemory = 0
		e.decoderList.remove(s)
	}
}

// event takes what a decoder tells, and reports whether it opened a request.
func (e *Engine) event(s *socket, x *executor, a *sample.Activity, v *http2.Event) (opened bool) {
	if v.Kind == http2.Request {
		return v.Dir == http2.Read && e.openStream(s, x, a, v)
	}
	r := e.streams[streamKey{s.id, v.Stream}]
	switch {
	case v.Kind == http2.Gap:
		// Answers may have been missed, so nobody knows what is still open.
		s.missed = true
		e.endAll(s, e.metrics.void)
	case r == nil:
	case v.Kind == http2.Response && v.Dir == http2.Write:
		status, _ := strconv.Atoi(v.Status) // unknown is no error
		e.finish(r, x, status)
	case v.Kind == http2.Reset, v.Kind == http2.Dropped:
		e.abandon(r, e.metrics.closed)
	}
	return false
}

// openStream opens the request of a stream. In Go, the goroutine that reads
// frames serves no request: the handler's is a child of another one.
func (e *Engine) openStream(s *socket, x *executor, a *sample.Activity, v *http2.Event) bool {
	if s.n >= maxStreams {
		e.metrics.requestsDropped.Inc()
		return false
	}
	p := e.processOf(x, a.PID)
	if x != nil && x.key.kind == sample.Goroutine {
		x = nil
	}
	if x != nil {
		x.bound = e.now
	}
	r := e.admit(s, x, p, e.streamHandler(p, v))
	e.onStream(r, v.Stream)
	r.loop = isLoop(x, a)
	e.carriesField(r, v.Traceparent)
	return true
}

// streamHandler is the handler of an HTTP/2 request.
func (e *Engine) streamHandler(p *process, v *http2.Event) *handler {
	if strings.HasPrefix(v.ContentType, "application/grpc") && isRPC(v.Path) {
		return e.handlers.rpc(p.service, systemGRPC, v.Path)
	}
	h := head{method: []byte(v.Method)}
	if v.Path == http2.Unknown || !h.setTarget([]byte(v.Path), false) {
		h.target = unknownPath
	}
	found, _ := e.handlers.path(p.service, h.method, h.target, false)
	return found
}

// isRPC reports whether a path has the form /package.Service/Method, of
// identifiers only.
func isRPC(path string) bool {
	slashes := 0
	for _, c := range []byte(path) {
		switch {
		case c == '/':
			slashes++
		case c == '.', c == '_', isLetter(c), '0' <= c && c <= '9':
		default:
			return false
		}
	}
	return slashes == 2 && path[0] == '/' && path[1] != '/' && path[len(path)-1] != '/' && len(path) <= 2*maxTemplate
}

// streamKey is a stream of a socket.
type streamKey struct {
	socket uint64
	stream uint32
}

// onStream takes that a request is that of a stream of its socket.
func (e *Engine) onStream(r *request, stream uint32) {
	r.stream = stream
	e.streams[streamKey{r.sock.id, stream}] = r
}
