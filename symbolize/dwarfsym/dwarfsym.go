// SPDX-License-Identifier: Apache-2.0

// Package dwarfsym names addresses of one ELF file from its DWARF debug information: functions, calls
// that were inlined, files and lines.
//
// Opening a file reads of each unit no more than which addresses are its. A unit is read when an
// address of it is looked up, if there is time, and kept within a bound. Files may have been made to hurt: every size is
// bounded before memory is allocated, references are followed a bounded number of times, and what is
// damaged gives an error or no name.
//
// Units may be split: what is in the file is then a skeleton, and the rest is in a file of its own (.dwo) or with
// others in a package (.dwp). Names may be in a supplementary file, which several files share (dwz).
//
// Source: DWARF Debugging Information Format, versions 4 and 5, with GNU's extensions to version 4
// (https://gcc.gnu.org/wiki/DebugFission). Versions 2 and 3 are read as far as they are the same.
package dwarfsym

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/fleetprof/fleetprof/internal/objfile"
)

// ErrNone reports a file without debug information.
var ErrNone = errors.New("no debug information")

// Frame is one function of those that an address is in.
type Frame struct {
	// Function is the name in the source, without scopes and arguments, empty if it is not known;
	// Linkage is the linker's name, empty if there is none.
	Function, Linkage string
	// File is as the compiler has it, most often absolute; empty if it is not known.
	File string
	// Line counts from 1; 0 is none.
	Line int
}

// ErrLater reports that nothing can be said now, as reading would take more time than is allowed.
var ErrLater = errors.New("no time to read debug information now")

var (
	// ErrSupplement reports that the supplementary file cannot be read.
	ErrSupplement = errors.New("read supplementary file")
	// ErrSplit reports a unit of which only the skeleton is used.
	ErrSplit = errors.New("read split unit")
)

// Table is the debug information of one file. It is safe for concurrent use.
type Table struct {
	file       *objfile.File // with segments of code
	units      *Units
	splitFiles func(directory, name string, use func(*objfile.File) error) error
	problem    func(error)

	mu         sync.Mutex
	own        *sections
	supplement *sections // nil if there is none
	pkg        *sections // nil if there is none
	spans      []span
	scratch    inflater
	rangesRead int // see maxRangesRead
	incomplete bool
}

// Options for Open.
type Options struct {
	// Code is the file that has the code: a debug file has no segments of its own.
	Code *objfile.File
	// Supplement is the supplementary file, Package has units that were split off. Both may be nil, and
	// must stay open.
	Supplement, Package *objfile.File
	// SplitFiles calls use with files that may have the split unit of a name, compiled in a directory, until
	// one is taken: use returns nil then. It returns the last error, which wraps os.ErrNotExist if there
	// is no such file. It may be nil.
	SplitFiles func(directory, name string, use func(*objfile.File) error) error
	// Problem is called with what leaves a part of the file without names, with the table locked. It may be nil.
	Problem func(error)
	// Bytes bounds the index of units, in bytes.
	Bytes int64
	// ScratchBytes bounds a file in $TMPDIR that has no name, in which sections are that were
	// compressed.
	ScratchBytes int64
	// Units keeps what was read of units.
	Units *Units
}

// Open reads the index of the units of a file. The caller closes the table.
func Open(f *objfile.File, o Options) (*Table, error) {
	t := &Table{file: o.Code, units: o.Units, splitFiles: o.SplitFiles, problem: o.Problem, scratch: inflater{left: o.ScratchBytes}}
	if t.problem == nil {
		t.problem = func(error) {}
	}
	var err error
	o.Units.spend(o.Units.cost(func() { err = t.open(f, o) }))
	if err != nil {
		t.Close()
		return nil, err
	}
	return t, nil
}

func (t *Table) open(f *objfile.File, o Options) (err error) {
	if t.own, err = openSections(f, whole, &t.scratch); err != nil {
		return err
	}
	if t.own.info.size == 0 {
		return ErrNone
	}
	t.own.lineStr.whole = t.own.lineStr.size <= wholeBytes
	if o.Supplement != nil {
		if err := t.openSupplement(o.Supplement, o.Bytes); err != nil {
			t.problem(fmt.Errorf("%w: %w", ErrSupplement, err))
		}
	}
	if o.Package != nil {
		if t.pkg, err = openSections(o.Package, split, &t.scratch); err != nil {
			t.problem(fmt.Errorf("package: %w", err))
		}
	}
	return t.readIndex(o.Bytes)
}

// readIndex reads which addresses are of which unit.
func (t *Table) readIndex(limit int64) error {
	err := t.own.readUnits(func(u *unit) error {
		if memory, _ := t.Bytes(); memory > limit {
			return errTooLarge
		}
		if u.isType() {
			return nil
		}
		e, err := t.readFirst(u)
		if err != nil {
			return err
		}
		index := int32(len(t.own.units) - 1)
		return t.rangesOf(u, &e, func(low, high uint64) bool {
			t.spans = append(t.spans, span{low, high, index})
			return len(t.spans) < maxSpans
		})
	})
	slices.SortFunc(t.spans, func(a, b span) int { return cmp.Or(cmp.Compare(a.low, b.low), cmp.Compare(a.unit, b.unit)) })
	t.spans = slices.Clip(disjoint(t.spans))
	return err
}

// openSupplement reads the index of the units of the supplementary file. It may take half of what the table may.
func (t *Table) openSupplement(f *objfile.File, limit int64) error {
	s, err := openSections(f, whole, &t.scratch)
	if err != nil {
		return err
	}
	err = s.readUnits(func(u *unit) error {
		if s.bytes() > limit/2 {
			return errTooLarge
		}
		_, err := t.readFirst(u)
		return err
	})
	if err == nil {
		t.supplement = s
	}
	return err
}

// span is a range of addresses as linked, of a unit by its index.
type span struct {
	low, high uint64
	unit      int32
}

const (
	spanBytes = 24
	// maxSpans bounds the ranges of all units.
	maxSpans = 1 << 22
)

// Close lets go of all that belongs to t. Nobody may use it any more.
func (t *Table) Close() {
	t.units.forget(t)
	t.scratch.close()
}

// Bytes is the memory that t takes, without units that are kept; scratch is what is on disk.
func (t *Table) Bytes() (memory, scratch int64) {
	return t.own.bytes() + t.supplement.bytes() + t.pkg.bytes() + int64(cap(t.spans))*spanBytes, t.scratch.at
}

// Incomplete tells whether split units were asked for in vain so far.
func (t *Table) Incomplete() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.incomplete
}

// Lookup gives the functions that an address as linked is in, the innermost first: the last one is
// that which the linker knows. None means that nothing is known of the address.
func (t *Table) Lookup(addr uint64) ([]Frame, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := after(t.spans, addr, func(s span) uint64 { return s.low }) - 1
	if i < 0 || addr >= t.spans[i].high {
		return nil, nil
	}
	p, err := t.units.get(t, t.spans[i].unit)
	if err != nil {
		return nil, err
	}
	return t.frames(p, addr), nil
}

func (t *Table) frames(p *parsed, addr uint64) (all []Frame) {
	file, line, known := p.position(addr)
	if known && p.innermost(addr) < 0 {
		return []Frame{{File: file, Line: int(line)}}
	}
	for s := p.innermost(addr); s >= 0; s = p.scopes[s].parent {
		f := Frame{File: file, Line: int(line)}
		f.Function, f.Linkage = t.nameOf(p, s)
		all = append(all, f)
		file, line = p.file(p.scopes[s].file), p.scopes[s].line
	}
	return all
}

// read reads a unit.
func (t *Table) read(u *unit) *parsed {
	t.rangesRead = 0
	p := t.readSplit(u)
	if p == nil {
		p = new(parsed)
		p.err = t.functions(u, p)
	}
	if p.err == nil {
		p.err = t.readLines(u, p)
	}
	if p.err != nil {
		*p = parsed{err: p.err}
	}
	t.own.trim()
	t.pkg.trim()
	p.bytes = 256 + int64(cap(p.scopes))*scopeBytes + int64(cap(p.segments))*segmentBytes +
		int64(cap(p.rows))*rowBytes + int64(cap(p.sequences))*sequenceBytes
	if p.shapes != nil {
		p.bytes += p.shapes.bytes()
	}
	for _, n := range p.names {
		p.bytes += nameBytes + int64(len(n[0])+len(n[1]))
	}
	for _, f := range p.files {
		p.bytes += 16 + int64(len(f))
	}
	return p
}

// parsed is what is kept of a unit.
type parsed struct {
	scopes    []scope
	segments  []segment
	rows      []row
	sequences []sequence
	files     []string
	names     map[uint64][2]string // by entries, as far as they are known: in the source, and the linker's
	nameBytes int64                // that were asked for
	unit      *unit                // nil, as shapes, if all names are known
	shapes    *abbreviations
	err       error
	key       unitKey
	kept      bool
	bytes     int64
}
