// SPDX-License-Identifier: Apache-2.0

package http2

// fragment takes the part of a header block that a frame has.
func (c *Conn) fragment(dir Direction, f frame, payload []byte, emit func(Event)) {
	h := &c.halves[dir]
	part, complete, ok := f.block(payload)
	if !ok {
		c.gap(dir, emit)
		return
	}
	if f.kind != continuationFrame {
		if f.flags&flagEndHeaders != 0 {
			c.read(dir, f, part, complete, emit)
			return
		}
		h.block = block{open: true, frame: f}
	}
	b := &h.block
	if !b.partial {
		room := maxBlock - len(b.bytes)
		b.partial = !complete || len(part) > room
		b.bytes = append(b.bytes, part[:min(len(part), room)]...)
	}
	if f.flags&flagEndHeaders != 0 {
		whole := *b
		h.block = block{}
		c.read(dir, whole.frame, whole.bytes, !whole.partial, emit)
	}
}

// read takes a header block, of which perhaps only the first bytes are here.
func (c *Conn) read(dir Direction, f frame, bytes []byte, complete bool, emit func(Event)) {
	if f.kind == headersFrame && c.leftOut(dir, f.stream) {
		c.forget(emit)
	}
	var list fields
	if !list.read(&c.halves[dir].table, bytes, complete) {
		c.gap(dir, emit)
		return
	}
	if f.kind == pushPromiseFrame || f.stream%2 == 0 {
		return // what a server pushes is not a request that anyone serves
	}
	if !c.clientKnown {
		switch {
		case list.request():
			c.client, c.clientKnown = dir, true
		case list.seen[statusKind]:
			c.client, c.clientKnown = 1-dir, true
		default:
			return
		}
	}
	if dir == c.client && list.seen[statusKind] || dir != c.client && list.request() {
		c.gap(dir, emit)
		return
	}
	if dir == c.client {
		c.request(dir, f, &list, emit)
	} else {
		c.answer(dir, f, &list, emit)
	}
}

// leftOut reports whether a client left out a number of a stream: then its
// request was missed.
func (c *Conn) leftOut(dir Direction, id uint32) bool {
	if !c.clientKnown || dir != c.client || id <= c.last || c.last == 0 && c.joined {
		return false
	}
	next := c.last + 2
	if c.last == 0 {
		next = 1
	}
	return id != next
}

// forget is for when calls were missed without a sign.
func (c *Conn) forget(emit func(Event)) {
	for dir := range c.halves {
		c.halves[dir].table.forget()
		emit(Event{Kind: Gap, Dir: Direction(dir)})
	}
}

// request takes a header block of a client: it opens a stream, or is the
// trailers of one.
func (c *Conn) request(dir Direction, f frame, list *fields, emit func(Event)) {
	switch {
	case f.stream > c.last && !list.request() && !list.partial:
		c.gap(dir, emit) // trailers of a request that was missed
		return
	case f.stream > c.last && (c.last > 0 || !c.joined || list.request()):
		c.last = f.stream
		if old := c.streams.open(f.stream); old != 0 {
			c.dropped++
			emit(Event{Kind: Dropped, Dir: dir, Stream: old})
		}
		emit(Event{
			Kind: Request, Dir: dir, Stream: f.stream,
			Method: list.get(methodKind), Path: list.get(pathKind),
			ContentType: list.get(contentTypeKind), Traceparent: list.get(traceparentKind),
		})
	case list.request():
		c.gap(dir, emit) // a stream is opened once
		return
	}
	if f.flags&flagEndStream != 0 {
		c.endStream(Event{Kind: EndStream, Dir: dir, Stream: f.stream}, emit)
	}
}

// answer takes a header block of a server: the head of the answer, one before
// it, or trailers.
func (c *Conn) answer(dir Direction, f frame, list *fields, emit func(Event)) {
	s := c.streams.find(f.stream)
	if s == nil {
		return
	}
	end := f.flags&flagEndStream != 0
	e := Event{
		Kind: Response, Dir: dir, Stream: f.stream,
		Status: list.get(statusKind), GRPCStatus: list.get(grpcStatusKind),
	}
	interim := !end && len(e.Status) == 3 && e.Status[0] == '1'
	if !s.answered && !interim {
		if e.Status == "" {
			c.forget(emit) // trailers, or an answer that is not one
			e.Status, e.GRPCStatus = Unknown, Unknown
		}
		s.answered = true
		emit(e)
	}
	if end {
		e.Kind = EndStream
		c.endStream(e, emit)
	}
}

// data takes a DATA frame, whatever is in it.
func (c *Conn) data(dir Direction, f frame, emit func(Event)) {
	s := c.streams.find(f.stream)
	if s == nil {
		return
	}
	if c.clientKnown && dir != c.client && !s.answered {
		s.answered = true
		c.forget(emit) // the head was missed
		emit(Event{Kind: Response, Dir: dir, Stream: f.stream, Status: Unknown, GRPCStatus: Unknown})
	}
	if f.flags&flagEndStream != 0 {
		c.endStream(Event{Kind: EndStream, Dir: dir, Stream: f.stream}, emit)
	}
}

// endStream tells that one side has ended a stream, and forgets the stream once
// both have.
func (c *Conn) endStream(e Event, emit func(Event)) {
	s := c.streams.find(e.Stream)
	if s == nil || s.ended[e.Dir] {
		return
	}
	s.ended[e.Dir] = true
	if s.ended[0] && s.ended[1] {
		c.streams.close(e.Stream)
	}
	emit(e)
}
