// SPDX-License-Identifier: Apache-2.0

package http2

import (
	"encoding/binary"
	"math"
	"slices"
)

const (
	// maxBlock is how much of a header block is kept until its end is read.
	maxBlock = 32 << 10
	// maxFailures is how many calls in a row may not begin with a frame until
	// the direction is given up.
	maxFailures = 1000
	// MaxBytes is the most that a connection holds, with what the allocator adds
	// to growing slices.
	MaxBytes = 2*(2*maxTableSize+2*maxBlock) + 32*MaxStreams
)

// Conn decodes one connection. Its methods must not be called at the same time.
type Conn struct {
	halves  [2]half
	streams streams
	// client is the direction of requests, once known.
	client      Direction
	clientKnown bool
	// last is the highest stream that a client opened, 0 if none was seen.
	last    uint32
	joined  bool
	dropped uint64
}

// phase is what the next bytes of a direction are.
type phase uint8

const (
	starting phase = iota // the first of the connection
	framing               // frames, or the rest of one
	seeking               // anything; frames may begin with a call
	over                  // of no interest
)

// half is one direction.
type half struct {
	phase    phase
	matched  int  // starting: bytes of the preface
	fresh    bool // the next frame is the first, and must be SETTINGS
	failures int
	trial    int // framing: how many headers must fit yet until events are told
	head     [frameHeaderLen]byte
	have     int // bytes of head
	frame    frame
	left     int    // bytes of the payload still to come
	payload  []byte // the first bytes of it, if it came in pieces
	cut      bool   // bytes of the payload were not captured
	// passed says that a call went on beyond the end of a frame's header or
	// payload. Some programs never do that.
	passed   bool
	maxFrame int // the longest payload that may come
	block    block
	table    table
}

// block is a header block whose end was not read yet.
type block struct {
	open    bool
	frame   frame // that begins it
	bytes   []byte
	partial bool // bytes are missing after these
}

// New decodes a connection; joined says that its beginning was not seen. In one
// that is not joined, bytes that are not HTTP/2 are never taken for it.
func New(joined bool) *Conn {
	c := &Conn{joined: joined}
	for i := range c.halves {
		h := &c.halves[i]
		h.fresh, h.maxFrame = true, defaultMaxFrameSize
		h.table.reset()
		if joined {
			h.seek()
		}
	}
	return c
}

// NewUpgraded decodes a connection that was HTTP/1.1 until a request with
// Upgrade: h2c was answered by 101 (RFC 7540, section 3.2). That request is
// stream 1, and no event tells of it. The bytes to feed begin after its end, and
// after the end of the 101 answer.
func NewUpgraded() *Conn {
	c := New(false)
	c.last = 1
	c.streams.open(1)
	return c
}

// Over reports whether nothing more will come of the connection: it is not
// HTTP/2, or frames were not found again. It then holds no memory but its own.
func (c *Conn) Over() bool { return c.halves[Read].phase == over && c.halves[Write].phase == over }

// Answering reports whether an answer that goes in a direction has begun, and its end was
// not seen.
func (c *Conn) Answering(dir Direction) bool {
	return slices.ContainsFunc(c.streams, func(s stream) bool { return s.answered && !s.ended[dir] })
}

// Dropped is how many streams were dropped because too many were open.
func (c *Conn) Dropped() uint64 { return c.dropped }

// Bytes is about how much memory the connection holds besides its own struct.
func (c *Conn) Bytes() int {
	total := cap(c.streams) * 8
	for i := range c.halves {
		h := &c.halves[i]
		total += cap(h.payload) + cap(h.block.bytes) + h.table.bytes()
	}
	return total
}

// Feed takes the bytes of one read or write, in the order of the calls: data is
// the first of total bytes, as many as were captured. It is not kept. Events come
// in their order.
func (c *Conn) Feed(dir Direction, data []byte, total int64, emit func(Event)) {
	data = data[:min(int64(len(data)), max(total, 0))]
	hole := max(total, 0) - int64(len(data))
	h := &c.halves[dir]
	if h.phase == starting {
		data = c.start(dir, data, hole)
	}
	if h.phase == seeking && len(data) > 0 {
		data = c.find(dir, data, total)
	}
	if h.phase == framing {
		c.step(dir, int64(len(data))+hole, emit)
	}
	for len(data) > 0 && h.phase == framing {
		data = c.consume(dir, data, emit)
	}
	if hole > 0 && h.phase == framing {
		c.skip(dir, hole, emit)
	}
}

// Lost says that calls of a direction were missed. It is an error not to call it
// where that is known: see the package comment.
func (c *Conn) Lost(dir Direction, emit func(Event)) {
	h := &c.halves[dir]
	if h.phase == over {
		return
	}
	if h.phase == starting || h.fresh {
		c.joined = true // the settings may be among what was missed
	}
	c.gap(dir, emit)
}

// start takes the first bytes of a direction: the preface from a client, a
// frame from a server. It returns what follows the preface.
func (c *Conn) start(dir Direction, data []byte, hole int64) (rest []byte) {
	h := &c.halves[dir]
	for len(data) > 0 && h.matched < len(preface) && data[0] == preface[h.matched] {
		data = data[1:]
		h.matched++
	}
	switch {
	case h.matched == len(preface) && !c.clientKnown:
		c.client, c.clientKnown = dir, true
		h.phase = framing
	case h.matched == 0 && len(data) > 0 && (!c.clientKnown || c.client != dir):
		h.phase = framing
	case len(data) > 0, hole > 0:
		c.end()
	}
	return data
}

// end gives the connection up.
func (c *Conn) end() {
	for i := range c.halves {
		c.halves[i] = half{phase: over}
	}
	c.streams = nil
}

// gap is for when bytes of a direction were missed: neither where frames begin
// is known now, nor the table.
func (c *Conn) gap(dir Direction, emit func(Event)) {
	h := &c.halves[dir]
	told := h.phase == seeking || h.trial > 0
	h.seek()
	if !told {
		emit(Event{Kind: Gap, Dir: dir})
	}
}

func (h *half) seek() {
	table, failures, most := h.table, h.failures, h.maxFrame
	table.forget()
	*h = half{phase: seeking, table: table, failures: failures, maxFrame: most}
}

// find looks whether a call begins with frames, and returns the bytes from there
// on. Programs that read the header of a frame by a call of its own (Go's server
// does) show one header at a time: then the second that fits is believed.
func (c *Conn) find(dir Direction, data []byte, total int64) (frames []byte) {
	h := &c.halves[dir]
	if len(data) > len(preface) && string(data[:len(preface)]) == preface && !c.clientKnown {
		data, total = data[len(preface):], total-int64(len(preface))
	}
	if begins(data, total) {
		h.phase = framing
		return data
	}
	if h.failures++; h.failures == maxFailures {
		*h = half{phase: over}
		return nil
	}
	if total != int64(len(data)) || total < frameHeaderLen || parseFrame(data).kind == continuationFrame {
		return nil
	}
	h.phase, h.trial = framing, 2
	return data
}

// step looks at how long a call is. Programs that read headers and payloads by
// calls of their own read no more than is left of one: a call that does, within
// a header block, is not the rest of it, and calls in between were missed.
func (c *Conn) step(dir Direction, total int64, emit func(Event)) {
	h := &c.halves[dir]
	left := frameHeaderLen - h.have
	if left == 0 {
		left = h.left
	}
	if total <= int64(left) {
		return
	}
	if !h.passed && h.have == frameHeaderLen && h.frame.hasBlock() {
		c.gap(dir, emit)
		return
	}
	h.passed = true
}

// consume takes bytes up to the end of a frame or of the bytes.
func (c *Conn) consume(dir Direction, data []byte, emit func(Event)) (rest []byte) {
	h := &c.halves[dir]
	if h.have < frameHeaderLen {
		n := copy(h.head[h.have:], data)
		h.have += n
		data = data[n:]
		if h.have < frameHeaderLen {
			return nil
		}
		h.frame = parseFrame(h.head[:])
		if !c.expected(dir) {
			if h.fresh {
				c.end()
			} else {
				c.gap(dir, emit)
			}
			return nil
		}
		h.left, h.fresh, h.trial = h.frame.length, false, max(0, h.trial-1)
	}
	n := min(h.left, len(data))
	h.left -= n
	payload := data[:n]
	if h.left > 0 || len(h.payload) > 0 || h.cut {
		if keep := h.frame.kept() - len(h.block.bytes); !h.cut {
			h.payload = append(h.payload, payload[:max(0, min(n, keep-len(h.payload)))]...)
		}
		payload = h.payload
	}
	if h.left == 0 {
		c.finish(dir, payload, emit)
	}
	return data[n:]
}

// skip passes over bytes that were not captured. Frames that begin within them
// are not known.
func (c *Conn) skip(dir Direction, hole int64, emit func(Event)) {
	h := &c.halves[dir]
	if h.fresh {
		c.end()
		return
	}
	if h.have < frameHeaderLen || hole > int64(h.left) {
		c.gap(dir, emit)
		return
	}
	h.left -= int(hole)
	h.cut = true
	if h.left == 0 {
		c.finish(dir, h.payload, emit)
	}
}

// expected reports whether the frame can stand where it does.
func (c *Conn) expected(dir Direction) bool {
	h := &c.halves[dir]
	f, most := h.frame, h.maxFrame
	if c.joined && f.kind == dataFrame {
		most = largestFrameSize // the settings were not seen
	}
	switch {
	case !f.valid(most), h.trial > 0 && !f.common(),
		h.fresh && (f.kind != settingsFrame || f.flags != 0),
		h.block.open != (f.kind == continuationFrame),
		h.block.open && f.stream != h.block.frame.stream,
		c.clientKnown && dir == c.client && (f.kind == pushPromiseFrame || f.kind <= headersFrame && f.stream%2 == 0):
		return false
	}
	return true
}

// finish takes the payload of a frame, or its first bytes.
func (c *Conn) finish(dir Direction, payload []byte, emit func(Event)) {
	h := &c.halves[dir]
	f := h.frame
	h.have, h.payload, h.cut = 0, nil, false
	if h.trial > 0 {
		c.try(dir, f, payload, emit)
		return
	}
	h.failures = 0
	switch f.kind {
	case dataFrame:
		c.data(dir, f, emit)
	case headersFrame, pushPromiseFrame, continuationFrame:
		c.fragment(dir, f, payload, emit)
	case resetFrame:
		if c.streams.find(f.stream) != nil {
			c.streams.close(f.stream)
			emit(Event{Kind: Reset, Dir: dir, Stream: f.stream, Code: number(payload, 0)})
		}
	case goAwayFrame:
		emit(Event{Kind: GoAway, Dir: dir, Stream: number(payload, 0) & math.MaxInt32, Code: number(payload, 4)})
	case settingsFrame:
		c.settings(dir, payload, f.length)
	}
}

// try takes the payload of a frame that is not believed yet. It must be
// possible, and what it inserts into the table counts.
func (c *Conn) try(dir Direction, f frame, payload []byte, emit func(Event)) {
	if f.kind != headersFrame {
		return
	}
	var list fields
	part, complete, ok := f.block(payload)
	if !ok || f.flags&flagEndHeaders == 0 || !list.read(&c.halves[dir].table, part, complete) {
		c.gap(dir, emit)
	}
}

// number is the one at an offset of a payload, the highest if it is not there.
func number(payload []byte, at int) uint32 {
	if len(payload) < at+4 {
		return math.MaxUint32
	}
	return binary.BigEndian.Uint32(payload[at:])
}

// settings are those that the other side has to keep to.
func (c *Conn) settings(dir Direction, payload []byte, length int) {
	const maxFrameSize = 5 // SETTINGS_MAX_FRAME_SIZE
	most := &c.halves[1-dir].maxFrame
	for at := 0; at+6 <= len(payload); at += 6 {
		if binary.BigEndian.Uint16(payload[at:]) == maxFrameSize {
			*most = max(*most, int(min(number(payload, at+2), largestFrameSize)))
		}
	}
	if len(payload) < length {
		*most = largestFrameSize
	}
}
