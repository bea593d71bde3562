// SPDX-License-Identifier: Apache-2.0

package dwarfsym

import (
	"bytes"
	"compress/zlib"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/klauspost/compress/zstd"

	"github.com/fleetprof/fleetprof/internal/objfile"
)

const (
	// chunkBytes is how much of a section is read at a time.
	chunkBytes = 16 << 10
	// wholeBytes is the most that is kept of a section which is read to and fro.
	wholeBytes = 64 << 10
	// maxPiece bounds what is parsed in one piece, such as a unit or a line number program, in bytes.
	maxPiece = 16 << 20
	// maxString bounds a name, in bytes; what is longer is cut.
	maxString = 16 << 10
	// chdrSize is the size of Elf64_Chdr.
	chdrSize = 24
	// maxWindow bounds the memory that zstd takes for a section, in bytes.
	maxWindow = 8 << 20
)

var (
	errShort    = errors.New("ends too early")
	errTooLarge = errors.New("too large")
)

// section is the content of one. It is not safe for concurrent use.
type section struct {
	r     io.ReaderAt
	size  uint64
	chunk []byte // what was read last
	at    uint64 // its place
	whole bool   // whether all of it is read at a time

	// Of sections with units.
	number  int
	ofTypes bool // .debug_types
}

// inflater opens sections. What is compressed goes to a file.
type inflater struct {
	left int64 // bytes that may still be written
	file *os.File
	at   int64
}

// sections finds those of a name; without any there is an empty one.
func (i *inflater) sections(f *objfile.File, name string) (all []*section, err error) {
	for _, s := range f.Sections {
		if s.Name != name || s.Type == elf.SHT_NOBITS {
			continue
		}
		if s.Flags&elf.SHF_COMPRESSED == 0 {
			all = append(all, &section{r: f.Reader(s), size: s.Size})
			continue
		}
		begin := i.at
		if err := i.inflate(f.Reader(s)); err != nil {
			return nil, fmt.Errorf("decompress section %s: %w", name, err)
		}
		size := i.at - begin
		all = append(all, &section{r: io.NewSectionReader(i.file, begin, size), size: uint64(size)})
	}
	if len(all) == 0 {
		all = []*section{{r: bytes.NewReader(nil)}}
	}
	return all, nil
}

// inflate reads a compressed section, see the System V gABI, "Section Compression".
func (i *inflater) inflate(r *io.SectionReader) (err error) {
	header := make([]byte, chdrSize)
	if _, err := io.ReadFull(r, header); err != nil {
		return err
	}
	size := binary.LittleEndian.Uint64(header[8:])
	if size > uint64(i.left) {
		return fmt.Errorf("%d bytes: %w", size, errTooLarge)
	}
	var plain io.Reader
	switch kind := elf.CompressionType(binary.LittleEndian.Uint32(header)); kind {
	case elf.COMPRESS_ZLIB:
		if plain, err = zlib.NewReader(r); err != nil {
			return err
		}
	case elf.COMPRESS_ZSTD:
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return err
		}
		defer z.Close()
		plain = z
	default:
		return fmt.Errorf("unknown compression %d", kind)
	}
	if err := i.open(); err != nil {
		return err
	}
	n, err := io.Copy(io.NewOffsetWriter(i.file, i.at), io.LimitReader(plain, int64(size)))
	i.at += n
	i.left -= n
	if err == nil && uint64(n) != size {
		err = errShort
	}
	return err
}

// open makes the file, which has no name from the beginning.
func (i *inflater) open() (err error) {
	if i.file != nil {
		return nil
	}
	if i.file, err = os.CreateTemp("", "debug-"); err != nil {
		return err
	}
	return os.Remove(i.file.Name())
}

func (i *inflater) close() {
	if i.file != nil {
		i.file.Close() // it has no name: nothing is left
	}
}

// upTo gives at most n bytes from an offset on, fewer at the end. They are valid until the next call.
func (s *section) upTo(off, n uint64) ([]byte, error) {
	if off >= s.size {
		return nil, nil
	}
	n = min(n, s.size-off)
	if off >= s.at && off-s.at <= uint64(len(s.chunk)) && n <= uint64(len(s.chunk))-(off-s.at) {
		return s.chunk[off-s.at:][:n], nil
	}
	if n > maxPiece {
		return nil, errTooLarge
	}
	s.at, s.chunk = off, s.chunk[:0]
	want := int(min(max(n, chunkBytes), s.size-off))
	if s.whole {
		s.at, want = 0, int(s.size)
	}
	if cap(s.chunk) < want || cap(s.chunk) > 4*max(want, chunkBytes) {
		s.chunk = make([]byte, want)
	}
	s.chunk = s.chunk[:want]
	if got, err := s.r.ReadAt(s.chunk, int64(s.at)); got < want {
		s.chunk = s.chunk[:0]
		return nil, fmt.Errorf("%w: %w", errShort, err)
	}
	return s.chunk[off-s.at:][:n], nil
}

// trim lets go of a chunk that is larger than usual.
func (s *section) trim() {
	if cap(s.chunk) > 2*chunkBytes {
		s.chunk, s.at = nil, 0
	}
}

// parse calls f with the content from an offset on, and again with more of it if f has run into its end.
func (s *section) parse(off uint64, f func(*cursor)) error { return s.parseWithin(off, maxPiece, f) }

// parseWithin is parse for what has at most so many bytes, at least 256.
func (s *section) parseWithin(off, limit uint64, f func(*cursor)) error {
	for n := uint64(256); ; n = min(n*8, limit) {
		b, err := s.upTo(off, n)
		if err != nil {
			return err
		}
		c := cursor{b: b, base: off}
		f(&c)
		switch {
		case !c.bad:
			return nil
		case uint64(len(b)) < n:
			return errShort
		case n == limit:
			return errTooLarge
		}
	}
}

// text reads a string that ends with a NUL.
func (s *section) text(off uint64) (text string, err error) {
	err = s.parse(off, func(c *cursor) { text = c.text() })
	return text, err
}

// cursor reads values one after the other. Behind the end all are 0, and bad is true.
type cursor struct {
	b    []byte
	at   int
	base uint64 // where b begins
	bad  bool
	// attributes counts those that were read. They may take no bytes.
	attributes int
}

func (c *cursor) take(n uint64) []byte {
	if c.bad || n > uint64(len(c.b)-c.at) {
		c.bad = true
		return nil
	}
	b := c.b[c.at:][:n]
	c.at += int(n)
	return b
}

// place is where the next value is.
func (c *cursor) place() uint64 { return c.base + uint64(c.at) }

// number reads n bytes, at most 8.
func (c *cursor) number(n int) (v uint64) {
	b := c.take(uint64(n))
	for i := len(b) - 1; i >= 0; i-- {
		v = v<<8 | uint64(b[i])
	}
	return v
}

func (c *cursor) u8() uint8   { return uint8(c.number(1)) }
func (c *cursor) u16() uint16 { return uint16(c.number(2)) }

// offset reads one of the 32-bit or the 64-bit format, DWARF 5 section 7.4.
func (c *cursor) offset(is64 bool) uint64 {
	if is64 {
		return c.number(8)
	}
	return c.number(4)
}

// length reads the length that a unit begins with, section 7.2.2.
func (c *cursor) length() (n uint64, is64 bool) {
	n = c.number(4)
	if n == 0xffffffff {
		return c.number(8), true
	}
	return n, false
}

// uleb reads an unsigned LEB128, section 7.6. What is beyond 64 bits is lost.
func (c *cursor) uleb() (v uint64) {
	for shift := 0; c.at < len(c.b) && !c.bad; shift += 7 {
		b := c.b[c.at]
		c.at++
		if shift < 64 {
			v |= uint64(b&0x7f) << shift
		}
		if b < 0x80 {
			return v
		}
	}
	c.bad = true
	return 0
}

func (c *cursor) sleb() (v int64) {
	for shift := 0; c.at < len(c.b) && !c.bad; {
		b := c.b[c.at]
		c.at++
		if shift < 64 {
			v |= int64(b&0x7f) << shift
		}
		shift += 7
		if b < 0x80 {
			if b&0x40 != 0 && shift < 64 {
				v |= -1 << shift
			}
			return v
		}
	}
	c.bad = true
	return 0
}

// text reads a string that ends with a NUL, and cuts it at maxString.
func (c *cursor) text() string {
	rest := c.b[min(c.at, len(c.b)):]
	end := bytes.IndexByte(rest, 0)
	if end < 0 && len(rest) > maxString {
		return string(rest[:maxString])
	}
	b := c.take(uint64(end)) // of -1 it is bad
	c.take(1)
	return string(b[:min(len(b), maxString)])
}
