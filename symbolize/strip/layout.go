// SPDX-License-Identifier: Apache-2.0

package strip

import (
	"debug/elf"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
)

// alignment is that of contents, in bytes: as much as readers of tables ask for.
const alignment = 16

func align(n, to int64) int64 { return (n + to - 1) &^ (to - 1) }

// alignment is that of a section. Notes stay side by side, see gABI chapter 5, "Note Section".
func (s *section) alignment() int64 {
	if s.kind() == elf.SHT_NOTE && s.word(sectionAlign) == 4 {
		return 4
	}
	return alignment
}

// File is an ELF file that does not exist as such. It is safe for concurrent use if the files are that
// it was made of.
type File struct {
	pieces []piece // in the order of their offsets
	size   int64
}

// piece is a part of a File; between pieces there are zeros.
type piece struct {
	at, size int64
	from     io.ReaderAt
}

// Size is in bytes.
func (f *File) Size() int64 { return f.size }

// ReadAt is that of io.ReaderAt. A file that has shrunk since gives io.ErrUnexpectedEOF.
func (f *File) ReadAt(b []byte, off int64) (n int, err error) {
	if off < 0 || off >= f.size {
		return 0, io.EOF
	}
	short := int64(len(b)) > f.size-off
	b = b[:min(int64(len(b)), f.size-off)]
	clear(b)
	first, _ := slices.BinarySearchFunc(f.pieces, off, func(p piece, off int64) int {
		if p.at+p.size <= off {
			return -1
		}
		return 1
	})
	end := off + int64(len(b))
	for _, p := range f.pieces[first:] {
		if p.at >= end {
			break
		}
		begin, stop := max(p.at, off), min(p.at+p.size, end)
		got, err := p.from.ReadAt(b[begin-off:stop-off], begin-p.at)
		if int64(got) < stop-begin {
			if err == io.EOF || err == nil {
				err = io.ErrUnexpectedEOF
			}
			return int(begin-off) + got, err
		}
	}
	if short {
		return len(b), io.EOF
	}
	return len(b), nil
}

// layOut puts all in its place: headers, program headers, contents in the order of their sections,
// section headers.
func (p *plan) layOut(limit int64) (*File, error) {
	f := new(File)
	add := func(from io.ReaderAt, size int64) error {
		if size > limit || f.size > limit-size {
			return fmt.Errorf("more than %d bytes: %w", limit, ErrTooLarge)
		}
		if size > 0 {
			f.pieces = append(f.pieces, piece{f.size, size, from})
		}
		f.size += size
		return nil
	}
	header, segments := p.headers.File, p.headers.Segments
	if err := add(inMemory(header)); err != nil {
		return nil, err
	}
	if err := add(inMemory(segments)); err != nil {
		return nil, err
	}
	var table []byte
	for i := range p.sections {
		s := &p.sections[i]
		if s.content != nil {
			f.size = align(f.size, s.alignment())
			s.offset = f.size
			if err := add(s.content, s.size); err != nil {
				return nil, err
			}
			s.setWord(sectionAt, uint64(s.offset))
		} else if s.kind() == elf.SHT_NOBITS {
			s.setWord(sectionAt, uint64(f.size))
		}
		table = append(table, s.header...)
	}
	f.size = align(f.size, alignment)
	binary.LittleEndian.PutUint64(header[32:], fileHeader)              // e_phoff
	binary.LittleEndian.PutUint64(header[40:], uint64(f.size))          // e_shoff
	binary.LittleEndian.PutUint16(header[60:], uint16(len(p.sections))) // e_shnum
	for b := segments; len(b) > 0; b = b[segmentHeader:] {
		p.place(b[:segmentHeader])
	}
	return f, add(inMemory(table))
}

// place corrects a program header. Those of what is loaded stay as they are: they turn offsets in the program into
// addresses. Notes are where they are now, and nothing is left of all else.
func (p *plan) place(header []byte) {
	word := func(at int) uint64 { return binary.LittleEndian.Uint64(header[at:]) }
	set := func(at int, v uint64) { binary.LittleEndian.PutUint64(header[at:], v) }
	kind := elf.ProgType(binary.LittleEndian.Uint32(header))
	if kind == elf.PT_LOAD {
		return
	}
	begin, end := word(segmentAddr), word(segmentAddr)+word(segmentSize)
	set(segmentBytes, 0)
	if kind != elf.PT_NOTE {
		return
	}
	for i := range p.sections {
		s := &p.sections[i]
		addr := s.word(sectionAddr)
		if s.content == nil || s.kind() != elf.SHT_NOTE || addr < begin || addr >= end {
			continue
		}
		switch size := word(segmentBytes); {
		case size == 0:
			set(segmentAddr, addr)
			set(segmentAddr+8, addr) // p_paddr
			set(segmentAt, uint64(s.offset))
			set(segmentBytes, uint64(s.size))
		case word(segmentAt)+addr-word(segmentAddr) == uint64(s.offset): // it follows as it did
			set(segmentBytes, uint64(s.offset+s.size)-word(segmentAt))
		}
	}
}
