// SPDX-License-Identifier: Apache-2.0

package http2

import "encoding/binary"

// preface is what a client sends first (RFC 9113, section 3.4).
const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

const (
	frameHeaderLen      = 9
	defaultMaxFrameSize = 16384     // RFC 9113, section 6.5.2
	largestFrameSize    = 1<<24 - 1 // what the length of a frame can say
)

type frameType uint8

// The types of RFC 9113, section 6.
const (
	dataFrame frameType = iota
	headersFrame
	priorityFrame
	resetFrame
	settingsFrame
	pushPromiseFrame
	pingFrame
	goAwayFrame
	windowUpdateFrame
	continuationFrame
	knownFrames
)

// Flags. Their meaning depends on the type.
const (
	flagEndStream  = 0x01
	flagAck        = 0x01
	flagEndHeaders = 0x04
	flagPadded     = 0x08
	flagPriority   = 0x20
)

// frame is the header of a frame.
type frame struct {
	length int
	kind   frameType
	flags  uint8
	stream uint32 // the highest bit is reserved and must be 0
}

// parseFrame reads the first 9 bytes.
func parseFrame(b []byte) frame {
	return frame{
		length: int(b[0])<<16 | int(b[1])<<8 | int(b[2]),
		kind:   frameType(b[3]),
		flags:  b[4],
		stream: binary.BigEndian.Uint32(b[5:]),
	}
}

// rule is what holds for all frames of a type.
type rule struct {
	flags uint8 // those that are defined
	// length of the payload: at least, at most (0 for any), a multiple of
	least, most, step int
	// onStream: 1 on a stream only, 0 on the connection only, -1 both.
	onStream int8
}

var rules = [knownFrames]rule{
	dataFrame:         {flagEndStream | flagPadded, 0, 0, 1, 1},
	headersFrame:      {flagEndStream | flagEndHeaders | flagPadded | flagPriority, 0, 0, 1, 1},
	priorityFrame:     {0, 5, 5, 1, 1},
	resetFrame:        {0, 4, 4, 1, 1},
	settingsFrame:     {flagAck, 0, 0, 6, 0},
	pushPromiseFrame:  {flagEndHeaders | flagPadded, 4, 0, 1, 1},
	pingFrame:         {flagAck, 8, 8, 1, 0},
	goAwayFrame:       {0, 8, 0, 1, 0},
	windowUpdateFrame: {0, 4, 4, 1, -1},
	continuationFrame: {flagEndHeaders, 0, 0, 1, 1},
}

// valid reports whether there can be such a frame of at most a length. Types
// that are not of RFC 9113 are valid: they are extensions, to be ignored.
func (f frame) valid(most int) bool {
	if f.length > most || f.stream>>31 != 0 {
		return false
	}
	if f.kind >= knownFrames {
		return f.extension()
	}
	r := &rules[f.kind]
	switch {
	case f.flags&^r.flags != 0,
		f.length < r.least, r.most > 0 && f.length > r.most, f.length%r.step != 0,
		r.onStream == 1 && f.stream == 0, r.onStream == 0 && f.stream != 0,
		f.kind == settingsFrame && f.flags&flagAck != 0 && f.length != 0:
		return false
	}
	return f.kind == settingsFrame || f.kind == pingFrame || f.overhead() <= f.length
}

// extension reports whether the type is one that programs send: ALTSVC (RFC
// 7838), ORIGIN (RFC 8336), PRIORITY_UPDATE (RFC 9218), or one of those that
// clients send so that extensions stay possible (11 + 31 N, as Chromium does).
func (f frame) extension() bool {
	return f.kind == 0x0a || f.kind == 0x0c || f.kind == 0x10 || f.kind%31 == 11
}

// overhead is the least that stands before and after the content of a frame.
func (f frame) overhead() (n int) {
	if f.flags&flagPadded != 0 {
		n++
	}
	if f.kind == headersFrame && f.flags&flagPriority != 0 {
		n += 5
	}
	if f.kind == pushPromiseFrame {
		n += 4
	}
	return n
}

// block is the part of a header block in the payload, of which perhaps only the
// first bytes are here; complete says whether it is all. ok is false if there
// can be no such payload.
func (f frame) block(payload []byte) (part []byte, complete, ok bool) {
	begin, end := f.overhead(), f.length
	if f.flags&flagPadded != 0 {
		if len(payload) == 0 {
			return nil, false, true
		}
		end -= int(payload[0])
	}
	if begin > end {
		return nil, false, false
	}
	if len(payload) < begin {
		return nil, false, true
	}
	return payload[begin:min(end, len(payload))], len(payload) >= end, true
}

// hasBlock reports whether the payload is part of a header block.
func (f frame) hasBlock() bool {
	return f.kind == headersFrame || f.kind == pushPromiseFrame || f.kind == continuationFrame
}

// kept is how much of the payload is looked at.
func (f frame) kept() int {
	if f.hasBlock() {
		return min(f.length, maxBlock)
	}
	switch f.kind {
	case settingsFrame:
		return min(f.length, 64*6)
	case resetFrame, goAwayFrame:
		return min(f.length, 8)
	}
	return 0
}

// begins reports whether the bytes of a call, the first of total, begin at the
// boundary of a frame. One frame that ends with the call is believed if its
// header block can be read, as are two frames in a row.
func begins(data []byte, total int64) bool {
	at, frames := int64(0), 0
	for at != total {
		if int64(len(data))-at < frameHeaderLen {
			return frames >= 2
		}
		f := parseFrame(data[at:])
		if !f.valid(defaultMaxFrameSize) || !f.common() || frames == 0 && f.kind == continuationFrame {
			return false
		}
		at += frameHeaderLen
		if f.kind == headersFrame && !readable(f, data[at:min(at+int64(f.length), int64(len(data)))]) {
			return false
		}
		at += int64(f.length)
		frames++
		if at > total {
			return frames >= 2
		}
	}
	return frames > 0
}

// common reports whether the frame is one that programs send in practice:
// servers that push are a thing of the past, and no list of settings is long or
// empty.
func (f frame) common() bool {
	switch f.kind {
	case dataFrame, headersFrame, continuationFrame:
		return f.stream%2 == 1
	case settingsFrame:
		return f.length <= 32*6 && (f.length == 0) == (f.flags&flagAck != 0)
	}
	return f.kind < knownFrames && f.kind != pushPromiseFrame && f.length <= defaultMaxFrameSize
}

// readable reports whether the payload of a HEADERS frame, of which perhaps
// only the first bytes are here, can be a header block.
func readable(f frame, payload []byte) bool {
	part, complete, ok := f.block(payload)
	if !ok {
		return false
	}
	var t table
	var list fields
	t.forget()
	return list.read(&t, part, complete && f.flags&flagEndHeaders != 0)
}

// Plausible reports whether the bytes may begin with a HEADERS frame by which a
// client opens a stream. It is a cheap filter for what was read from or written
// to connections of which nothing is known: it looks at ten bytes or so. At
// most one in ten million random strings passes; what passes needs Conn to say
// whether it is a request.
func Plausible(data []byte) bool {
	if len(data) <= frameHeaderLen {
		return false
	}
	f := parseFrame(data)
	if f.kind != headersFrame || !f.valid(defaultMaxFrameSize) || f.stream%2 == 0 {
		return false
	}
	part, _, ok := f.block(data[frameHeaderLen:min(frameHeaderLen+f.length, len(data))])
	if !ok || len(part) == 0 {
		return false
	}
	return opensRequest(part[0])
}

// opensRequest reports whether the first byte of a header block may be that of
// a request. Its first field is a pseudo-header field (RFC 9113, section 8.3):
// :authority, :method, :path or :scheme, which are 1 to 7 in the static table,
// one of the dynamic table, or a new name. A size update may stand before it.
func opensRequest(b byte) bool {
	index := b & 0x0f // a literal that is not indexed
	switch {
	case b&0x80 != 0:
		index = b & 0x7f
		return index >= 1 && index <= 7 || int(index) > len(staticTable)
	case b&0x40 != 0:
		index = b & 0x3f
		return index <= 7 || int(index) > len(staticTable)
	case b&0x20 != 0:
		return true
	}
	return index <= 7 || index == 0x0f
}
