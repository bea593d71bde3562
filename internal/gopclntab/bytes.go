// SPDX-License-Identifier: Apache-2.0

package gopclntab

import "io"

// Bytes hands out the section's bytes. What a method returns is valid until the next
// call of either. What lies behind the end of the section gives io.ErrUnexpectedEOF.
type Bytes interface {
	// Bytes returns n bytes from an offset in the section on. The caller has bounded
	// n.
	Bytes(off, n uint64) ([]byte, error)
	// From returns what is at hand from an offset on, at least one byte.
	From(off uint64) ([]byte, error)
}

// Reader reads a table through Bytes. It is not safe for concurrent use.
type Reader struct {
	*Table
	src Bytes
	own ahead
}

// Reader returns a reader that has a buffer of that many bytes. It suits reads in
// ascending order.
func (t *Table) Reader(buffer int) *Reader {
	r := &Reader{Table: t, own: ahead{r: t.content, size: t.size, buf: make([]byte, 0, buffer)}}
	r.src = &r.own
	return r
}

// ReaderThrough returns a reader of what else keeps the section, see Section.
func (t *Table) ReaderThrough(b Bytes) *Reader { return &Reader{Table: t, src: b} }

// ahead keeps the piece that was read last.
type ahead struct {
	r    io.ReaderAt
	size uint64
	// buf holds what is in the section from off on.
	buf []byte
	off uint64
}

// Bytes is that of the interface. More than the buffer holds makes it grow.
func (a *ahead) Bytes(off, n uint64) ([]byte, error) {
	if off > a.size || n > a.size-off {
		return nil, io.ErrUnexpectedEOF
	}
	if at := off - a.off; at > uint64(len(a.buf)) || uint64(len(a.buf))-at < n {
		if err := a.fill(off, n); err != nil {
			return nil, err
		}
	}
	return a.buf[off-a.off:][:n], nil
}

// From is that of the interface.
func (a *ahead) From(off uint64) ([]byte, error) {
	if off >= a.size {
		return nil, io.ErrUnexpectedEOF
	}
	if at := off - a.off; at >= uint64(len(a.buf)) {
		if err := a.fill(off, 1); err != nil {
			return nil, err
		}
	}
	return a.buf[off-a.off:], nil
}

// fill reads n bytes or, if there is room and there are, more.
func (a *ahead) fill(off, n uint64) error {
	if uint64(cap(a.buf)) < n {
		a.buf = make([]byte, 0, n)
	}
	b := a.buf[:min(uint64(cap(a.buf)), a.size-off)]
	a.buf = a.buf[:0]
	if got, err := a.r.ReadAt(b, int64(off)); got < len(b) {
		if err == nil || err == io.EOF {
			return io.ErrUnexpectedEOF // the file has shrunk
		}
		return err
	}
	a.buf, a.off = b, off
	return nil
}
