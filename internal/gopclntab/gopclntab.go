// SPDX-License-Identifier: Apache-2.0

// Package gopclntab reads .gopclntab, the table a Go program has its own runtime
// unwind and name functions with. It is there in stripped programs too.
//
// Layouts of Go 1.2 to 1.26 are read, 64-bit little-endian:
//
//	magic       Go          function addresses       names, files
//	0xfffffffb  1.2–1.15    absolute, 8 bytes        from the table's start
//	0xfffffffa  1.16–1.17   absolute, 8 bytes        tables of their own
//	0xfffffff0  1.18–1.19   after text start, 4      tables of their own
//	0xfffffff1  1.20–1.26   after text start, 4      tables of their own
//
// The start of the text stood in the table's header up to Go 1.25, where a
// position-independent program holds a relocation or zero; since 1.26 it does
// not stand there at all. It is therefore taken from the runtime's moduledata.
// The address of the .text section is not it: with cgo and an external linker, C
// code comes first.
//
// A Table is the header. All else is read from the file when it is asked for, by
// a Reader, through whatever keeps the section's bytes at hand (Bytes). The file
// may have been made to hurt its reader: what is read and kept at a time is bounded,
// and walks end with the section at the latest.
//
// Sources: cmd/link/internal/ld/pcln.go, runtime/symtab.go, internal/abi/symtab.go
// and debug/gosym of Go 1.26; https://go.dev/s/go12symtab.
package gopclntab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/fleetprof/fleetprof/internal/objfile"
)

var (
	// ErrNoTable reports a file without a Go table: not a Go program.
	ErrNoTable = errors.New("no .gopclntab section")
	// ErrUnsupported reports a table in a layout this package does not read.
	ErrUnsupported = errors.New("unsupported .gopclntab layout")
	// ErrDamaged reports a table that contradicts itself. One that is cut off
	// gives io.ErrUnexpectedEOF as well.
	ErrDamaged = errors.New("damaged .gopclntab")
)

// Version is a layout of the table, named after the first Go that has it.
type Version uint8

// Layouts.
const (
	Go12 Version = iota
	Go116
	Go118
	Go120
)

const (
	// maxFunctions bounds the table; the largest programs have some 300,000.
	maxFunctions = 4 << 20
	// maxHeader is the size of the longest header, in bytes.
	maxHeader = 8 + 8*8
)

// Section is the section of the table.
func Section(f *objfile.File) (objfile.Section, bool) {
	s, ok := f.Section(".gopclntab")
	if !ok {
		s, ok = f.Section(".data.rel.ro.gopclntab")
	}
	return s, ok
}

// Table is what the header of a table says, and the runtime's moduledata. It does
// not change once FindModule has returned, and is then safe for concurrent use.
type Table struct {
	Version Version
	// Quantum is the unit of code addresses in pc-value tables, in bytes: 1 on
	// amd64, 4 on arm64.
	Quantum uint64
	// Count is the number of functions.
	Count uint64
	// Text is where function addresses count from, 0 before Go 1.18 and before
	// FindModule.
	Text uint64
	// InlineTrees is where inline trees count from (go:func.*), or 0. Before Go
	// 1.20 and before FindModule it is 0.
	InlineTrees uint64
	// Module is the address of the runtime's moduledata, or 0 if there is none, or it was not
	// looked for.
	Module uint64

	file *objfile.File
	// address is that of the section as linked, content its bytes, size how many.
	address uint64
	content *io.SectionReader
	size    uint64
	// headerText is the start of the text as the header has it.
	headerText uint64
	// width is the size of the fields in the function table and of the start in a
	// function's record, in bytes.
	width uint64
	// recordSize is the size of the fixed part of a function's record, in bytes.
	recordSize uint64
	// Offsets in the section. Names reach up to units since Go 1.16.
	names, units, files, values, functions, entries uint64
}

// Open reads the header of a program's table.
func Open(f *objfile.File) (*Table, error) {
	s, ok := Section(f)
	if !ok {
		return nil, ErrNoTable
	}
	t := &Table{file: f, address: s.Address, content: f.Reader(s), size: s.Size}
	b, err := t.Reader(maxHeader).src.Bytes(0, min(maxHeader, s.Size))
	if err != nil {
		return nil, fmt.Errorf("read .gopclntab header: %w", err)
	}
	if err := t.parse(b); err != nil {
		return nil, fmt.Errorf("read .gopclntab header: %w", err)
	}
	return t, nil
}

// parse reads the header, of which b has as much as there is.
func (t *Table) parse(b []byte) error {
	if len(b) < 16 {
		return ErrDamaged
	}
	var h [maxHeader]byte
	copy(h[:], b)
	word := func(i int) uint64 { return binary.LittleEndian.Uint64(h[8+8*i:]) }
	words := 8
	switch magic := binary.LittleEndian.Uint32(h[:]); magic {
	case 0xfffffffb:
		words = 1
		t.Version, t.width, t.recordSize, t.entries = Go12, 8, 12, 16
	case 0xfffffffa:
		words = 7
		t.Version, t.width, t.recordSize = Go116, 8, 44
		t.names, t.units, t.files, t.values, t.functions = word(2), word(3), word(4), word(5), word(6)
		t.entries = t.functions
	case 0xfffffff0, 0xfffffff1:
		t.Version, t.width, t.recordSize, t.headerText = Go118, 4, 40, word(2)
		if magic == 0xfffffff1 {
			t.Version, t.recordSize = Go120, 44
		}
		t.names, t.units, t.files, t.values, t.functions = word(3), word(4), word(5), word(6), word(7)
		t.entries = t.functions
	default:
		return fmt.Errorf("magic %#x: %w", magic, ErrUnsupported)
	}
	if h[7] != 8 {
		return fmt.Errorf("pointers of %d bytes: %w", h[7], ErrUnsupported)
	}
	t.Quantum, t.Count = uint64(h[6]), word(0)
	if len(b) < 8+8*words {
		return fmt.Errorf("%d bytes: %w", len(b), ErrDamaged)
	}
	return t.check()
}

// check compares the header with the size of the section.
func (t *Table) check() error {
	if t.Quantum == 0 {
		return fmt.Errorf("no unit of code addresses: %w", ErrDamaged)
	}
	for _, off := range [...]uint64{t.names, t.units, t.files, t.values, t.functions} {
		if off > t.size {
			return fmt.Errorf("table at %#x of %#x: %w", off, t.size, ErrDamaged)
		}
	}
	if t.Count == 0 || t.Count > maxFunctions || t.entries > t.size || (2*t.Count+1)*t.width > t.size-t.entries {
		return fmt.Errorf("%d functions: %w", t.Count, ErrDamaged)
	}
	return nil
}

// FindModule finds where function addresses and inline trees count from. Before Go
// 1.18 there is nothing to find.
func (t *Table) FindModule() error {
	if t.Version < Go118 {
		return nil
	}
	var edge [2]uint64
	r := t.Reader(8)
	for i, number := range [...]uint64{0, t.Count} {
		var e [1]Entry
		if _, err := r.Entries(e[:], number); err != nil {
			return fmt.Errorf("read function table: %w", err)
		}
		edge[i] = e[0].Start
	}
	m, err := findModule(t.file, t.address, edge[0], edge[1])
	if err != nil {
		return err
	}
	t.Text, t.Module = m.text, m.address
	if t.Version >= Go120 {
		t.InlineTrees = m.inlineTrees
	}
	if t.Text == 0 && t.headerText != 0 && t.file.HasCode(t.headerText+edge[0]) {
		t.Text = t.headerText
	}
	if t.Text == 0 {
		return fmt.Errorf("find start of Go text: %w", ErrUnsupported)
	}
	return nil
}
