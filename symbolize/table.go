// SPDX-License-Identifier: Apache-2.0

package symbolize

import (
	"errors"
	"fmt"
	"io"

	"github.com/fleetprof/fleetprof/internal/objfile"
	"github.com/fleetprof/fleetprof/sample"
	"github.com/fleetprof/fleetprof/symbolize/elfsym"
	"github.com/fleetprof/fleetprof/symbolize/gosym"
)

// tableOverhead is what a table takes besides its symbols, in bytes: headers,
// the file, its place in the cache.
const tableOverhead = 4 << 10

// pageSize is what pprof expects mappings to be aligned to, in bytes.
const pageSize = 4096

// table names positions in one file. It is safe for concurrent use; names are
// read from the file, which must stay open.
type table struct {
	file    *objfile.File // without sections
	buildID string
	golang  *gosym.Table  // nil: not a Go program
	symbols *elfsym.Table // nil: no symbols that could be kept
	// demangler takes the names in symbols.
	demangler demangler
}

// problem is something that leaves a part of a file without names.
type problem struct {
	reason string
	err    error
}

// Reasons in the metric of failures.
const (
	reasonOpen      = "open"
	reasonHeaders   = "headers"
	reasonGo        = "go_table"
	reasonSymbols   = "symbols"
	reasonOversized = "oversized"
	reasonRead      = "read"
)

// loadTable reads what names the file's code, Go's own table first: it is
// there in stripped programs too. The ELF symbols then only add what is not
// Go code. At most limit bytes are kept. The table is usable without what
// problems were found with.
func loadTable(f *objfile.File, limit int64) (*table, []problem) {
	t := &table{file: f, buildID: f.BuildID()}
	var problems []problem
	golang, err := gosym.Open(f)
	switch {
	case err == nil:
		t.golang = golang
	case !errors.Is(err, gosym.ErrNoTable):
		problems = append(problems, problem{reasonGo, err})
	}
	t.symbols, err = elfsym.Load(f, limit, func(addr uint64) bool {
		return t.golang != nil && t.golang.Contains(addr)
	})
	switch {
	case errors.Is(err, elfsym.ErrTooLarge):
		problems = append(problems, problem{reasonOversized, err})
	case err != nil:
		problems = append(problems, problem{reasonSymbols, err})
	}
	f.Sections = nil // of no more use
	return t, problems
}

// openTable is loadTable for the bytes behind r.
func openTable(r io.ReaderAt, size, limit int64) (*table, []problem, error) {
	f, err := objfile.Open(r, size)
	if err != nil {
		return nil, nil, err
	}
	t, problems := loadTable(f, limit)
	return t, problems, nil
}

// bytes is the memory the table takes.
func (t *table) bytes() int64 {
	n := int64(tableOverhead)
	if t.golang != nil {
		n += t.golang.Bytes()
	}
	if t.symbols != nil {
		n += t.symbols.Bytes()
	}
	return n
}

// segment gives the address as linked for a file offset and the segment that
// holds it, from the program header, in whole pages as it gets mapped. Readers
// of the profile that have the file then compute a base address of 0.
func (t *table) segment(path string, offset uint64) (addr uint64, seg sample.Segment, ok bool) {
	addr, s, ok := t.file.Locate(offset)
	if !ok {
		return 0, sample.Segment{}, false
	}
	lead := s.Offset % pageSize
	if s.Address%pageSize != lead {
		lead = 0 // could not be mapped; only made-up files are like this
	}
	return addr, sample.Segment{
		Start:   s.Address - lead,
		Limit:   (s.Address + s.FileSize + pageSize - 1) &^ (pageSize - 1),
		Offset:  s.Offset - lead,
		File:    path,
		BuildID: t.buildID,
	}, true
}

// frames names an address as linked; no frames mean that it has no name. The
// error is about demangling when frames are returned, about reading otherwise.
func (t *table) frames(addr uint64) ([]sample.Frame, error) {
	if t.golang != nil && t.golang.Contains(addr) {
		frames, err := t.golang.Lookup(addr)
		for i := range frames {
			frames[i].Function = shorten(frames[i].Function)
			frames[i].File = shorten(frames[i].File)
		}
		return frames, err
	}
	if t.symbols == nil {
		return nil, nil
	}
	name, err := t.symbols.Lookup(addr)
	if name == "" || err != nil {
		return nil, err
	}
	f := sample.Frame{}
	f.Function, err = t.demangler.readable(name)
	if err != nil {
		err = fmt.Errorf("%w: %w", errDemangle, err)
	}
	if name = shorten(name); name != f.Function {
		f.SystemName = name
	}
	return []sample.Frame{f}, err
}

// errDemangle marks a name that is shown as the linker has it.
var errDemangle = errors.New("keep mangled name")
