// SPDX-License-Identifier: Apache-2.0

// Package strip makes of a program and its debug file one ELF file with no more than names need, to be
// sent to who names its code elsewhere: symbol tables, .gopclntab with what the runtime's tables refer to,
// .gnu_debugdata, procedure linkage tables, notes, and of the debug information all but where variables
// are and how to unwind. Code and data are taken out as objcopy --only-keep-debug does it: their sections are
// there, without content (SHT_NOBITS).
//
// Program headers stay those of the program, so that file offsets of the program are turned into
// addresses as before. Numbers of sections stay as they are, because symbols refer to them.
//
// Nothing is copied: a File reads from the files that it was made of, which have to stay open. They may
// have been made to hurt: all sizes are bounded, by package objfile and by the limit of the result.
//
// Sources: elf(5), System V gABI chapters 4 and 5, DWARF 5 section 7.3.
package strip

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/fleetprof/fleetprof/internal/objfile"
)

var (
	// ErrNothing reports a file in which nothing names code.
	ErrNothing = errors.New("nothing in it names code")
	// ErrTooLarge reports a result that is larger than the caller allows.
	ErrTooLarge = errors.New("too large")
)

// Sizes of ELF's structures, in bytes, and offsets in Elf64_Shdr and Elf64_Phdr.
const (
	fileHeader    = 64
	segmentHeader = 56
	sectionHeader = 64

	sectionType  = 4
	sectionAddr  = 16
	sectionAt    = 24
	sectionSize  = 32
	sectionLink  = 40
	sectionAlign = 48
	segmentAt    = 8
	segmentAddr  = 16
	segmentBytes = 32
	segmentSize  = 40
)

// section is one of the result.
type section struct {
	header  []byte // Elf64_Shdr
	content io.ReaderAt
	size    int64 // of the content
	offset  int64 // of the content in the result
}

func (s *section) word(at int) uint64       { return binary.LittleEndian.Uint64(s.header[at:]) }
func (s *section) setWord(at int, v uint64) { binary.LittleEndian.PutUint64(s.header[at:], v) }
func (s *section) setType(t elf.SectionType) {
	binary.LittleEndian.PutUint32(s.header[sectionType:], uint32(t))
}
func (s *section) setLink(i uint32) { binary.LittleEndian.PutUint32(s.header[sectionLink:], i) }

func (s *section) kind() elf.SectionType {
	return elf.SectionType(binary.LittleEndian.Uint32(s.header[sectionType:]))
}

// keep gives the section content.
func (s *section) keep(content io.ReaderAt, size int64) { s.content, s.size = content, size }

// clear takes the content out. What was loaded keeps its place in memory, all else is gone.
func (s *section) clear(loaded bool) {
	s.content, s.size = nil, 0
	if loaded {
		s.setType(elf.SHT_NOBITS)
		return
	}
	clear(s.header)
}

// plan is a result in the making.
type plan struct {
	object   *objfile.File
	headers  objfile.Headers // of the object
	base     *objfile.File   // whose sections the result has: the debug file's, if there is one
	sections []section
	loaded   map[place]int // the numbers of sections of base
}

// New plans the file that object, a program or library, and its debug file become; debug may be nil. The
// result has at most limit bytes.
func New(object, debug *objfile.File, limit int64) (*File, error) {
	if object.Type != elf.ET_EXEC && object.Type != elf.ET_DYN {
		return nil, fmt.Errorf("file of type %v: %w", object.Type, ErrNothing)
	}
	p := &plan{object: object, base: object}
	var err error
	if p.headers, err = object.Headers(); err != nil {
		return nil, err
	}
	raw := p.headers.Sections
	if debug != nil {
		of, err := debug.Headers()
		if err != nil {
			return nil, fmt.Errorf("debug file: %w", err)
		}
		p.base, raw = debug, of.Sections
		copy(p.headers.File[62:], of.File[62:]) // e_shstrndx
	}
	p.take(raw)
	if err := p.keepGo(); err != nil {
		return nil, err
	}
	if err := p.keepImports(); err != nil {
		return nil, err
	}
	if !p.useful() {
		return nil, ErrNothing
	}
	return p.layOut(limit)
}

// take makes the sections, with the content of those that are kept as they are.
func (p *plan) take(raw []byte) {
	p.sections = make([]section, len(p.base.Sections))
	keep := wanted(p.base, p.nameTable())
	p.loaded = make(map[place]int)
	for i, s := range p.base.Sections {
		if s.Flags&elf.SHF_ALLOC != 0 {
			p.loaded[place{s.Name, s.Address}] = i
		}
	}
	twins := p.twins()
	for i := range p.sections {
		s, of := &p.sections[i], &p.base.Sections[i]
		s.header = raw[i*sectionHeader:][:sectionHeader]
		switch twin, ok := twins[i]; {
		case keep[i]:
			s.keep(p.base.Reader(*of), int64(of.Size))
		case ok:
			p.takeTwin(s, twin)
		default:
			s.clear(of.Flags&elf.SHF_ALLOC != 0)
		}
	}
}

// nameTable is the number of the section that has the names of sections.
func (p *plan) nameTable() int { return int(binary.LittleEndian.Uint16(p.headers.File[62:])) }

// place tells sections of a program and of its debug file apart.
type place struct {
	name string
	addr uint64
}

// at is the section of the result that stands for one of the object, or nil.
func (p *plan) at(of *objfile.Section) *section {
	if i, ok := p.loaded[place{of.Name, of.Address}]; ok {
		return &p.sections[i]
	}
	return nil
}

// twins finds for sections that the debug file has without content those of the object with
// content that is wanted.
func (p *plan) twins() map[int]int {
	if p.base == p.object {
		return nil
	}
	twins := make(map[int]int)
	for number, keep := range wanted(p.object, 0) {
		s := &p.object.Sections[number]
		i, ok := p.loaded[place{s.Name, s.Address}]
		if ok && keep && s.Flags&elf.SHF_ALLOC != 0 && p.base.Sections[i].Type == elf.SHT_NOBITS {
			twins[i] = number
		}
	}
	return twins
}

// takeTwin gives a section of the debug file what the object has in its place.
func (p *plan) takeTwin(s *section, number int) {
	of := &p.object.Sections[number]
	name := binary.LittleEndian.Uint32(s.header)
	copy(s.header, p.headers.Sections[number*sectionHeader:][:sectionHeader])
	binary.LittleEndian.PutUint32(s.header, name)
	s.setLink(0)
	if int(of.Link) < len(p.object.Sections) {
		linked := &p.object.Sections[of.Link]
		s.setLink(uint32(p.loaded[place{linked.Name, linked.Address}]))
	}
	s.keep(p.object.Reader(*of), int64(of.Size))
}

// useful tells whether anything names code.
func (p *plan) useful() bool {
	for i := range p.sections {
		if p.sections[i].content == nil {
			continue
		}
		switch name := p.base.Sections[i].Name; {
		case p.sections[i].kind() == elf.SHT_SYMTAB, p.sections[i].kind() == elf.SHT_DYNSYM,
			isGoTable(name), name == ".gnu_debugdata", name == ".debug_info", name == ".zdebug_info":
			return true
		}
	}
	return false
}

// inMemory is content that was made.
func inMemory(b []byte) (io.ReaderAt, int64) { return bytes.NewReader(b), int64(len(b)) }
