// SPDX-License-Identifier: Apache-2.0

// Package objfile reads one ELF file: segments, sections, symbols, relative
// relocations and the GNU build ID, and converts between file offsets and
// addresses as linked. It knows nothing else, processes least of all.
//
// The file belongs to a program being profiled and may have been made to hurt
// its reader. Every size and count is checked against the file's size and a
// fixed bound before memory is allocated or a loop is entered, and the file is
// only ever read with ReadAt: a mapping of a file that shrinks raises SIGBUS.
//
// Only 64-bit little-endian files are read, the layout of amd64 and arm64.
// Source: elf(5) and the System V gABI, chapters 4 and 5.
package objfile

import (
	"crypto/sha256"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
)

// ErrUnsupported reports a file that is not a 64-bit little-endian ELF file.
var ErrUnsupported = errors.New("not a 64-bit little-endian ELF file")

const (
	headerSize        = 64 // Elf64_Ehdr
	programHeaderSize = 56 // Elf64_Phdr
	sectionHeaderSize = 64 // Elf64_Shdr

	// Linked files have some 10 program headers and some 40 sections.
	maxProgramHeaders = 1 << 10
	maxSections       = 1 << 14
	// maxSectionNames bounds the table of section names, in bytes.
	maxSectionNames = 1 << 20
)

// Segment is one loadable part of the file (PT_LOAD).
type Segment struct {
	Flags elf.ProgFlag
	// Offset and FileSize are the range of file offsets, in bytes, that is
	// mapped at Address as linked.
	Offset, FileSize uint64
	Address          uint64
	// MemorySize is how many bytes from Address on are the segment's in memory. A debug file
	// has its code there only.
	MemorySize uint64
}

// Section is one entry of the section table.
type Section struct {
	Name  string
	Type  elf.SectionType
	Flags elf.SectionFlag
	// Address is the address as linked, 0 for what is not loaded.
	Address uint64
	// Offset and Size are bytes in the file; except for SHT_NOBITS they are
	// known to lie in it.
	Offset, Size uint64
	// Link is the index of a related section, such as a symbol table's names.
	Link uint32
	// Align is the alignment in bytes.
	Align uint64
}

// Contains reports whether the address as linked lies in the section.
func (s *Section) Contains(addr uint64) bool {
	return addr >= s.Address && addr-s.Address < s.Size
}

// File is an opened ELF file. It holds the parsed headers only. It is safe for
// concurrent use if its reader is.
type File struct {
	Type    elf.Type
	Machine elf.Machine
	// Entry is the address at which a process starts, 0 for none.
	Entry uint64
	// EHFrameHeader is the address of .eh_frame_hdr (PT_GNU_EH_FRAME), 0 for none.
	EHFrameHeader uint64
	// Segments holds the PT_LOAD program headers in the file's order.
	Segments []Segment
	Sections []Section
	// Digest is a SHA-256 over the ELF header and both header tables. It tells
	// apart what a build ID does not: a stripped file and its original.
	Digest [sha256.Size]byte

	r     io.ReaderAt
	size  uint64
	notes []noteRange
	// codeless says that the code was taken out: then the file's bytes are not where segments say,
	// and loaded has the sections of which some are left.
	codeless bool
	loaded   []Section
}

// Open reads the headers of the file behind r, which is size bytes long.
func Open(r io.ReaderAt, size int64) (*File, error) {
	if size < headerSize {
		return nil, ErrUnsupported
	}
	f := &File{r: r, size: uint64(size)}
	h, err := f.bytes(0, headerSize)
	if err != nil {
		return nil, fmt.Errorf("read ELF header: %w", err)
	}
	if string(h[:4]) != elf.ELFMAG || elf.Class(h[elf.EI_CLASS]) != elf.ELFCLASS64 ||
		elf.Data(h[elf.EI_DATA]) != elf.ELFDATA2LSB {
		return nil, ErrUnsupported
	}
	f.Type = elf.Type(binary.LittleEndian.Uint16(h[16:]))
	f.Machine = elf.Machine(binary.LittleEndian.Uint16(h[18:]))
	f.Entry = binary.LittleEndian.Uint64(h[24:])

	digest := sha256.New()
	digest.Write(h)
	if err := f.readSegments(h, digest); err != nil {
		return nil, fmt.Errorf("read program headers: %w", err)
	}
	if err := f.readSections(h, digest); err != nil {
		return nil, fmt.Errorf("read section headers: %w", err)
	}
	digest.Sum(f.Digest[:0])
	return f, nil
}

func (f *File) readSegments(h []byte, digest hash.Hash) error {
	table, count, err := f.headers(h[32:], h[54:], programHeaderSize, maxProgramHeaders)
	if err != nil {
		return err
	}
	digest.Write(table)
	for i := range count {
		p := table[i*programHeaderSize:]
		s := Segment{
			Flags:    elf.ProgFlag(binary.LittleEndian.Uint32(p[4:])),
			Offset:   binary.LittleEndian.Uint64(p[8:]),
			Address:  binary.LittleEndian.Uint64(p[16:]),
			FileSize: binary.LittleEndian.Uint64(p[32:]), MemorySize: binary.LittleEndian.Uint64(p[40:]),
		}
		switch elf.ProgType(binary.LittleEndian.Uint32(p)) {
		case elf.PT_LOAD:
			if s.Offset+s.FileSize < s.Offset || s.Address+s.FileSize < s.Address {
				return fmt.Errorf("segment %d wraps around", i)
			}
			f.Segments = append(f.Segments, s)
		case elf.PT_GNU_EH_FRAME:
			f.EHFrameHeader = s.Address
		case elf.PT_NOTE:
			align := binary.LittleEndian.Uint64(p[48:])
			f.notes = append(f.notes, noteRange{s.Offset, s.FileSize, align})
		}
	}
	return nil
}

func (f *File) readSections(h []byte, digest hash.Hash) error {
	table, count, err := f.headers(h[40:], h[58:], sectionHeaderSize, maxSections)
	if err != nil || count == 0 {
		return err
	}
	digest.Write(table)
	f.Sections = make([]Section, count)
	nameOffsets := make([]uint32, count)
	for i := range f.Sections {
		b := table[i*sectionHeaderSize:]
		s := Section{
			Type:    elf.SectionType(binary.LittleEndian.Uint32(b[4:])),
			Flags:   elf.SectionFlag(binary.LittleEndian.Uint64(b[8:])),
			Address: binary.LittleEndian.Uint64(b[16:]),
			Offset:  binary.LittleEndian.Uint64(b[24:]),
			Size:    binary.LittleEndian.Uint64(b[32:]),
			Link:    binary.LittleEndian.Uint32(b[40:]),
			Align:   binary.LittleEndian.Uint64(b[48:]),
		}
		if s.Type != elf.SHT_NOBITS && s.Type != elf.SHT_NULL && !f.holds(s.Offset, s.Size) {
			return fmt.Errorf("section %d lies outside of the file", i)
		}
		if s.Type == elf.SHT_NOTE {
			f.notes = append(f.notes, noteRange{s.Offset, s.Size, s.Align})
		}
		f.Sections[i], nameOffsets[i] = s, binary.LittleEndian.Uint32(b)
	}
	f.findLoaded()
	return f.nameSections(nameOffsets, int(binary.LittleEndian.Uint16(h[62:])))
}

// findLoaded tells whether the code was taken out of the file, as out of debug files, and what it has
// still of what is loaded.
func (f *File) findLoaded() {
	for _, s := range f.Sections {
		const code = elf.SHF_ALLOC | elf.SHF_EXECINSTR
		f.codeless = f.codeless || s.Type == elf.SHT_NOBITS && s.Flags&code == code
	}
	for _, s := range f.Sections {
		if f.codeless && s.Flags&elf.SHF_ALLOC != 0 && s.Type != elf.SHT_NOBITS {
			f.loaded = append(f.loaded, s)
		}
	}
}

func (f *File) nameSections(offsets []uint32, table int) error {
	if table == 0 || table >= len(f.Sections) {
		return nil // all sections stay nameless
	}
	s := f.Sections[table]
	if s.Type != elf.SHT_STRTAB || s.Size > maxSectionNames {
		return fmt.Errorf("section %d is no table of section names", table)
	}
	names, err := f.bytes(s.Offset, s.Size)
	if err != nil {
		return fmt.Errorf("read section names: %w", err)
	}
	for i, off := range offsets {
		f.Sections[i].Name = shortString(names, off)
	}
	return nil
}

// Headers are the headers of a file as they stand in it, elf(5): Elf64_Ehdr, and tables of Elf64_Phdr
// and Elf64_Shdr.
type Headers struct{ File, Segments, Sections []byte }

// Headers reads the headers once more. There are as many sections as in Sections.
func (f *File) Headers() (h Headers, err error) {
	if h.File, err = f.bytes(0, headerSize); err != nil {
		return h, fmt.Errorf("read ELF header: %w", err)
	}
	if h.Segments, _, err = f.headers(h.File[32:], h.File[54:], programHeaderSize, maxProgramHeaders); err != nil {
		return h, fmt.Errorf("read program headers: %w", err)
	}
	if h.Sections, _, err = f.headers(h.File[40:], h.File[58:], sectionHeaderSize, maxSections); err != nil {
		return h, fmt.Errorf("read section headers: %w", err)
	}
	if len(h.Sections) != len(f.Sections)*sectionHeaderSize {
		return h, errors.New("read section headers: the file has changed")
	}
	return h, nil
}

// headers reads a table of fixed-size headers: offset holds the 8-byte file
// offset, shape the 2-byte size and 2-byte number of entries.
func (f *File) headers(offset, shape []byte, entry, limit int) (table []byte, count int, err error) {
	count = int(binary.LittleEndian.Uint16(shape[2:]))
	if count == 0 {
		return nil, 0, nil
	}
	if count > limit {
		return nil, 0, fmt.Errorf("%d entries, more than %d", count, limit)
	}
	if got := int(binary.LittleEndian.Uint16(shape)); got != entry {
		return nil, 0, fmt.Errorf("entry size is %d, not %d", got, entry)
	}
	table, err = f.bytes(binary.LittleEndian.Uint64(offset), uint64(count*entry))
	return table, count, err
}

// Section finds a section by name.
func (f *File) Section(name string) (Section, bool) {
	for _, s := range f.Sections {
		if s.Name == name && s.Type != elf.SHT_NOBITS && s.Flags&elf.SHF_COMPRESSED == 0 {
			return s, true
		}
	}
	return Section{}, false
}

// Reader reads the content of a section, which must not be SHT_NOBITS.
func (f *File) Reader(s Section) *io.SectionReader {
	return io.NewSectionReader(f.r, int64(s.Offset), int64(s.Size))
}

// holds reports whether a range of bytes lies in the file.
func (f *File) holds(off, n uint64) bool { return off <= f.size && n <= f.size-off }

// bytes reads n bytes; the caller has bounded n.
func (f *File) bytes(off, n uint64) ([]byte, error) {
	if !f.holds(off, n) {
		return nil, io.ErrUnexpectedEOF
	}
	b := make([]byte, n)
	if err := readFull(f.r, b, int64(off)); err != nil {
		return nil, err
	}
	return b, nil
}

// readFull fills b. A file that has shrunk since its size was taken gives
// io.ErrUnexpectedEOF.
func readFull(r io.ReaderAt, b []byte, off int64) error {
	n, err := r.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// shortString cuts a NUL-terminated string of at most 64 bytes out of a table.
func shortString(table []byte, off uint32) string {
	if uint64(off) >= uint64(len(table)) {
		return ""
	}
	b := table[off:min(len(table), int(off)+64)]
	for i, c := range b {
		if c == 0 {
			return string(b[:i])
		}
	}
	return ""
}
