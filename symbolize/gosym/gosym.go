// SPDX-License-Identifier: Apache-2.0

// Package gosym names addresses of a Go program from its .gopclntab, the table
// the Go runtime itself uses. It is there in stripped programs too.
//
// Layouts of Go 1.2 to 1.26 are read, 64-bit little-endian:
//
//	magic       Go          function addresses       names, files
//	0xfffffffb  1.2–1.15    absolute, 8 bytes        from the table's start
//	0xfffffffa  1.16–1.17   absolute, 8 bytes        tables of their own
//	0xfffffff0  1.18–1.19   after text start, 4      tables of their own
//	0xfffffff1  1.20–1.26   after text start, 4      tables of their own
//
// Functions are named in all of them. Files, lines and inlined calls are told
// from Go 1.18 on, where one number says whether an address lies in an inlined
// call; a line of an inlined callee under its caller's name would be wrong, so
// where that callee cannot be named (Go 1.18 and 1.19) no line is given.
//
// The start of the text stood in the table's header up to Go 1.25, where a
// position-independent program holds a relocation or zero; since 1.26 it does
// not stand there at all. It is therefore taken from the runtime's moduledata,
// see objfile.GoModule. The address of the .text section is not it: with cgo and an
// external linker, C code comes first.
//
// Sources: cmd/link/internal/ld/pcln.go, runtime/symtab.go, and debug/gosym of
// Go 1.26; https://go.dev/s/go12symtab.
package gosym

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/fleetprof/fleetprof/internal/objfile"
	"github.com/fleetprof/fleetprof/sample"
)

var (
	// ErrNoTable reports a file without a Go table: not a Go program.
	ErrNoTable = errors.New("no .gopclntab section")
	// ErrUnsupported reports a table in a layout this package does not read.
	ErrUnsupported = errors.New("unsupported .gopclntab layout")
)

type version uint8

const (
	go12 version = iota
	go116
	go118
	go120
)

const (
	// maxFunctions bounds the table; the largest programs have some 300,000.
	maxFunctions = 4 << 20
	// indexStep is how many functions share one entry of the index in memory.
	indexStep = 64
)

// Table names the functions of one Go program. It is immutable, and safe for
// concurrent use if the file's reader is. It keeps one address for every 64
// functions and reads the rest from the file when asked.
type Table struct {
	file    *objfile.File
	section *io.SectionReader
	version version
	// quantum is the unit of code addresses in pc-value tables: 1 on amd64, 4
	// on arm64.
	quantum uint64
	// count is the number of functions, width the bytes of a functab field.
	count, width int

	// Offsets in the section. File names and lines need all of them.
	names, units, files, values, functions, functab uint64

	// text and inlineTrees are those of the objfile.GoModule; 0 before Go 1.18.
	text, inlineTrees uint64
	// index holds the address of every indexStep-th function, end the first
	// address behind the last one.
	index []uint64
	end   uint64
}

// Open reads the table's header and builds the index.
func Open(f *objfile.File) (*Table, error) {
	s, ok := f.GoTable()
	if !ok {
		return nil, ErrNoTable
	}
	t := &Table{file: f, section: f.Reader(s)}
	headerText, err := t.readHeader()
	if err != nil {
		return nil, err
	}
	first, err := t.buildIndex()
	if err != nil {
		return nil, fmt.Errorf("read function table: %w", err)
	}
	if t.version < go118 {
		return t, nil
	}
	m, err := f.FindGoModule(s.Address, first, t.end)
	if err != nil {
		return nil, err
	}
	t.text, t.inlineTrees = m.Text, m.InlineTrees
	if t.text == 0 && f.Executable(headerText+first) && headerText != 0 {
		t.text = headerText
	}
	if t.text == 0 {
		return nil, fmt.Errorf("find start of Go text: %w", ErrUnsupported)
	}
	for i := range t.index {
		t.index[i] += t.text
	}
	t.end += t.text
	return t, nil
}

// Bytes is the memory the table holds.
func (t *Table) Bytes() int64 { return int64(cap(t.index)) * 8 }

// Contains reports whether the program's Go code spans an address.
func (t *Table) Contains(addr uint64) bool {
	return len(t.index) > 0 && addr >= t.index[0] && addr < t.end
}

// readHeader reads everything that precedes the functions. It returns the text
// start as the header has it, which may be 0.
func (t *Table) readHeader() (text uint64, err error) {
	var h [8 + 8*8]byte
	if n, err := t.section.ReadAt(h[:], 0); n < 16 {
		return 0, fmt.Errorf("read .gopclntab header: %w", cmp.Or(err, io.ErrUnexpectedEOF))
	}
	word := func(i int) uint64 { return binary.LittleEndian.Uint64(h[8+8*i:]) }
	switch magic := binary.LittleEndian.Uint32(h[:]); magic {
	case 0xfffffffb:
		t.version, t.width, t.functab = go12, 8, 16
	case 0xfffffffa:
		t.version, t.width = go116, 8
		t.names, t.units, t.files, t.values, t.functions = word(2), word(3), word(4), word(5), word(6)
		t.functab = t.functions
	case 0xfffffff0, 0xfffffff1:
		t.version, t.width, text = go118, 4, word(2)
		if magic == 0xfffffff1 {
			t.version = go120
		}
		t.names, t.units, t.files, t.values, t.functions = word(3), word(4), word(5), word(6), word(7)
		t.functab = t.functions
	default:
		return 0, fmt.Errorf("magic %#x: %w", magic, ErrUnsupported)
	}
	if h[7] != 8 {
		return 0, fmt.Errorf("pointers of %d bytes: %w", h[7], ErrUnsupported)
	}
	t.quantum = uint64(h[6])
	count := word(0)
	if count == 0 || count > maxFunctions {
		return 0, fmt.Errorf("%d functions: %w", count, ErrUnsupported)
	}
	t.count = int(count)
	for _, off := range [...]uint64{t.names, t.units, t.files, t.values, t.functions} {
		if off > uint64(t.section.Size()) {
			return 0, fmt.Errorf("table at %#x: %w", off, io.ErrUnexpectedEOF)
		}
	}
	return text, nil
}

// buildIndex walks the function table once. It returns the first address;
// addresses are still relative to the text start from Go 1.18 on.
func (t *Table) buildIndex() (first uint64, err error) {
	t.index = make([]uint64, 0, (t.count+indexStep-1)/indexStep)
	var last uint64
	for i := 0; i < t.count; i += indexStep {
		b, err := t.block(i)
		if err != nil {
			return 0, err
		}
		for j := 0; j < len(b); j += 2 * t.width {
			entry := t.field(b[j:])
			if entry < last {
				return 0, fmt.Errorf("functions are not sorted: %w", ErrUnsupported)
			}
			last = entry
		}
		t.index = append(t.index, t.field(b))
	}
	t.end = last
	return t.index[0], nil
}

// block reads the functab entries from the i-th on, up to and with the first
// one of the next block; the table ends with an entry that is an address only.
func (t *Table) block(i int) ([]byte, error) {
	n := min(indexStep, t.count-i)
	b := make([]byte, (2*n+1)*t.width)
	off := t.functab + uint64(2*i*t.width)
	if err := t.read(b, off); err != nil {
		return nil, err
	}
	return b, nil
}

func (t *Table) field(b []byte) uint64 {
	if t.width == 4 {
		return uint64(binary.LittleEndian.Uint32(b))
	}
	return binary.LittleEndian.Uint64(b)
}

// read fills b from an offset in the section.
func (t *Table) read(b []byte, off uint64) error {
	if off > uint64(t.section.Size()) {
		return io.ErrUnexpectedEOF
	}
	if n, err := t.section.ReadAt(b, int64(off)); n < len(b) {
		return cmp.Or(err, io.ErrUnexpectedEOF)
	}
	return nil
}

// Lookup names the code at an address as linked, the innermost inlined call
// first. It returns no frames for an address outside of Go code; an error
// means that the file cannot be read or is damaged.
func (t *Table) Lookup(addr uint64) ([]sample.Frame, error) {
	if !t.Contains(addr) {
		return nil, nil
	}
	entry, record, err := t.find(addr)
	if err != nil {
		return nil, fmt.Errorf("find function at %#x: %w", addr, err)
	}
	fn, err := t.function(entry, record)
	if err != nil {
		return nil, fmt.Errorf("read function at %#x: %w", addr, err)
	}
	q := query{Table: t, function: fn, steps: maxSteps}
	frames, err := q.frames(addr - entry)
	if err != nil {
		return nil, fmt.Errorf("name function at %#x: %w", addr, err)
	}
	return frames, nil
}

// find returns the entry address of the function that holds addr, and the
// offset of its record.
func (t *Table) find(addr uint64) (entry, record uint64, err error) {
	i, found := slices.BinarySearch(t.index, addr)
	if !found {
		i-- // Contains has excluded addresses before the first
	}
	// Several functions may start at one address only if all but the last are
	// empty, so the last entry not above addr is the one.
	for i+1 < len(t.index) && t.index[i+1] == addr {
		i++
	}
	b, err := t.block(i * indexStep)
	if err != nil {
		return 0, 0, err
	}
	for ; len(b) > t.width; b = b[2*t.width:] {
		start := t.text + t.field(b)
		if start > addr {
			break
		}
		entry, record = start, t.field(b[t.width:])
	}
	return entry, t.functions + record, nil
}
