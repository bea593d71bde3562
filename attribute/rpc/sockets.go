// SPDX-License-Identifier: Apache-2.0

package rpc

type role uint8

const (
	unknownRole role = iota
	server           // requests are read from it
	client           // requests are written to it
)

type protocol uint8

const (
	http1 protocol = iota
	http2Protocol
	// noProtocol: the socket has left HTTP, or cannot be followed.
	noProtocol
)

type socket struct {
	id    uint64
	links links[socket]
	role  role
	proto protocol
	used  uint64 // when it was last heard of

	first, last *request // unanswered ones, in their order
	n           int
	// known says that a request of it was seen, and nothing got lost since.
	known bool
	// glue is the beginning of a head that was read in parts, and glueTime when.
	glue     []byte
	glueTime uint64
	// body is what is to come of the body of the last request: bytes, or
	// unknownLength.
	body    int64
	watched bool
	// doubt says that the last request was answered before its body was seen to its
	// end: what is read next may belong to that.
	doubt bool
	// cut says that bytes were read that were not captured, behind heads or in bodies:
	// requests may be among them.
	cut bool
	// rest is how many bytes of an answer are to be written, where answers may follow.
	rest int64
	// bare says that none of what the answer's head announces was seen yet.
	bare bool
	// passed is how many requests were passed over since the last one, and handler
	// what that one was.
	passed  int
	handler *handler
	// pipelined: a request was read before the one before it was answered.
	// hidden: on such a socket, bytes moved that were not captured, so requests
	// or answers may have been missed.
	pipelined, hidden bool
	upgradeH2C        bool

	// Of a client socket: the request on whose behalf another was written to it.
	tie        ref
	tieHandler *handler
	tieCertain bool
	waiting    int // requests written and not answered
	about      ref // whose answer is being read

	// decoder is nil on an HTTP/2 socket if it had to give way.
	decoder       Decoder
	decoderMemory int
	decoders      links[socket] // by recency
	// missed says that streams may be open on an HTTP/2 socket that were not seen, or
	// of which it is not known whether they are.
	missed bool
	// unwritten says that nothing was seen written to an HTTP/2 socket yet.
	unwritten bool
}

// socket finds a socket, or makes one.
func (e *Engine) socket(id uint64) *socket {
	s := e.sockets[id]
	if s == nil {
		if e.socketList.n >= maxSockets {
			e.metrics.socketsEvicted.Inc()
			e.forgetSocket(e.socketList.oldest, e.metrics.void)
		}
		s = &socket{id: id}
		if n := len(e.freeSockets); n > 0 {
			s, e.freeSockets = e.freeSockets[n-1], e.freeSockets[:n-1]
			*s = socket{id: id, glue: s.glue[:0]}
		}
		e.sockets[id] = s
		e.socketList.push(s)
	}
	s.used = e.now
	return s
}

// forgetSocket ends what is open on a socket, and forgets it.
func (e *Engine) forgetSocket(s *socket, by counter) {
	e.endAll(s, by)
	e.dropDecoder(s)
	e.socketList.remove(s)
	delete(e.sockets, s.id)
	if len(e.freeSockets) < maxFree {
		e.freeSockets = append(e.freeSockets, s)
	}
}

// endAll ends the open requests of a socket without an answer.
func (e *Engine) endAll(s *socket, by counter) {
	for s.first != nil {
		e.abandon(s.first, by)
	}
	s.body, s.rest = 0, 0
}
