// SPDX-License-Identifier: Apache-2.0

package unwind

import (
	"fmt"
	"io"

	"github.com/fleetprof/fleetprof/internal/objfile"
)

const (
	// A chunk is what is read at a time. Functions in order of addresses may lie in
	// any order in their section, so that it should cost little to read one.
	chunkBits = 12
	chunkSize = 1 << chunkBits
	// chunks is how many are kept: 2 MiB.
	chunks = 512

	// maxSection bounds a section that is read, in bytes. The largest browsers
	// stay below a tenth.
	maxSection = 1 << 30
)

// window reads a section at random and keeps what it read last. Not safe for
// concurrent use.
type window struct {
	r    io.ReaderAt
	size uint64
	// kept holds a chunk where its number modulo chunks says.
	kept   [chunks]chunk
	joined []byte
}

type chunk struct {
	// number is the chunk's offset in chunks, plus 1.
	number uint64
	bytes  []byte
}

func newWindow(f *objfile.File, s objfile.Section) (*window, error) {
	if s.Size > maxSection {
		return nil, fmt.Errorf("section of %d bytes, more than %d: %w", s.Size, maxSection, errDamaged)
	}
	return &window{r: f.Reader(s), size: s.Size}, nil
}

// From returns the bytes from off on, at least one and up to the end of its
// chunk. They are valid until the next call.
func (w *window) From(off uint64) ([]byte, error) {
	if off >= w.size {
		return nil, io.ErrUnexpectedEOF
	}
	number := off >> chunkBits
	c := &w.kept[number%chunks]
	if c.number != number+1 {
		if err := w.read(c, number); err != nil {
			return nil, err
		}
	}
	return c.bytes[off%chunkSize:], nil
}

func (w *window) read(c *chunk, number uint64) error {
	start := number << chunkBits
	if c.number = 0; c.bytes == nil {
		c.bytes = make([]byte, min(chunkSize, w.size))
	}
	c.bytes = c.bytes[:min(uint64(cap(c.bytes)), w.size-start)]
	if n, err := w.r.ReadAt(c.bytes, int64(start)); n < len(c.bytes) {
		return shortRead(err)
	}
	c.number = number + 1
	return nil
}

// Bytes returns n bytes, valid until the next call. The caller has bounded n.
func (w *window) Bytes(off, n uint64) ([]byte, error) {
	if off > w.size || n > w.size-off {
		return nil, io.ErrUnexpectedEOF
	}
	if n == 0 {
		return nil, nil
	}
	b, err := w.From(off)
	if err != nil || uint64(len(b)) >= n {
		return b[:min(n, uint64(len(b)))], err
	}
	w.joined = append(w.joined[:0], b...)
	for uint64(len(w.joined)) < n {
		if b, err = w.From(off + uint64(len(w.joined))); err != nil {
			return nil, err
		}
		w.joined = append(w.joined, b[:min(uint64(len(b)), n-uint64(len(w.joined)))]...)
	}
	return w.joined, nil
}

// shortRead is the error of a read that gave too little: a file that has shrunk
// gives io.EOF.
func shortRead(err error) error {
	if err == nil || err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
