// SPDX-License-Identifier: Apache-2.0

package symbolize

import (
	"errors"
	"fmt"
	"io"

	"github.com/fleetprof/fleetprof/internal/objfile"
	"github.com/fleetprof/fleetprof/sample"
	"github.com/fleetprof/fleetprof/symbolize/dwarfsym"
	"github.com/fleetprof/fleetprof/symbolize/elfsym"
	"github.com/fleetprof/fleetprof/symbolize/gosym"
	"github.com/fleetprof/fleetprof/symbolize/minidebug"
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
	golang  *gosym.Table // nil: not a Go program
	// symbols are those of the file's debug file, its own, and those within it that it
	// does not export, as far as there are any that could be kept.
	symbols []*elfsym.Table
	inner   int64 // bytes of a file within it
	// details are inlined calls, files and lines.
	details
	// awaits is set if there is no debug file, and DebugFiles may have one later.
	awaits bool
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
	reasonMini      = "mini_debug_info"
	reasonDebugFile = "debug_file"
	reasonDebugInfo = "debug_information"
	reasonSup       = "supplementary_file"
	reasonPackage   = "debug_package"
	reasonSplit     = "split_unit"
	reasonNoSplit   = "split_unit_missing"
	reasonOversized = "oversized"
	reasonRead      = "read"
	reasonGenerated = "generated_code"
	reasonIndex     = "index"
)

// loading is what tables are loaded with.
type loading struct {
	limit int64 // bytes of memory for one
	units *dwarfsym.Units
	names *readableNames
}

// besides are the files that say more of one. Any of them may be nil.
type besides struct {
	debug *objfile.File
	// supplement and pkg belong to the debug information; split opens what else was split off of it.
	supplement, pkg *objfile.File
	split           func(directory, name string, use func(*objfile.File) error) error
	// problem is told of what is found to be missing later.
	problem func(error)
}

// scratchShare is how many bytes of a file on disk count as one of memory.
const scratchShare = 32

// loadTable reads what names the file's code, Go's own table first: it is
// there in stripped programs too. The ELF symbols then only add what is not
// Go code. At most limit bytes are kept. The table is usable without what
// problems were found with.
func (l *loading) loadTable(f *objfile.File, b besides, x *openedIndex) (*table, []problem) {
	t, limit := &table{file: f, buildID: f.BuildID(), demangler: demangler{known: l.names}}, l.limit
	var problems []problem
	golang, err := gosym.Open(f)
	switch {
	case err == nil:
		t.golang = golang
	case !errors.Is(err, gosym.ErrNoTable):
		problems = append(problems, problem{reasonGo, err})
	}
	load := func(from *objfile.File, reason string) {
		err := t.loadSymbols(from, limit)
		switch {
		case errors.Is(err, elfsym.ErrTooLarge):
			problems = append(problems, problem{reasonOversized, err})
		case err != nil:
			problems = append(problems, problem{reason, err})
		}
	}
	if b.debug != nil {
		load(b.debug, reasonDebugFile)
	}
	whole := len(t.symbols) > 0
	load(f, reasonSymbols)
	if !whole {
		inner, size, err := minidebug.Open(f, limit-t.bytes())
		switch {
		case err == nil:
			t.inner = size
			load(inner, reasonMini)
		case !errors.Is(err, minidebug.ErrNone):
			problems = append(problems, problem{reasonMini, err})
		}
	}
	if t.index = x; x == nil && t.golang == nil {
		if t.debug, err = l.openDebug(f, b, l.limit-t.bytes()); err != nil {
			problems = append(problems, problem{reasonDebugInfo, err})
		}
	}
	f.Sections = nil // of no more use
	return t, problems
}

// loadSymbols adds the symbols of a file.
func (t *table) loadSymbols(f *objfile.File, limit int64) error {
	symbols, err := elfsym.Load(f, limit-t.bytes(), func(addr uint64) bool {
		return t.golang != nil && t.golang.Contains(addr)
	})
	if err == nil && symbols.Bytes() > 0 {
		t.symbols = append(t.symbols, symbols)
	}
	return err
}

// openDebug opens the debug information of the debug file, if there is one, or of the file, in so many bytes; nil is
// none.
func (l *loading) openDebug(f *objfile.File, b besides, limit int64) (*dwarfsym.Table, error) {
	debug := b.debug
	if debug == nil {
		debug = f
	}
	t, err := dwarfsym.Open(debug, dwarfsym.Options{
		Code: f, Supplement: b.supplement, Package: b.pkg, SplitFiles: b.split, Problem: b.problem,
		Bytes: limit, ScratchBytes: limit * scratchShare, Units: l.units,
	})
	if errors.Is(err, dwarfsym.ErrNone) {
		err = nil
	}
	return t, err
}

// openTable is loadTable for the bytes behind r.
func (l *loading) openTable(r io.ReaderAt, size int64) (*table, []problem, error) {
	f, err := objfile.Open(r, size)
	if err != nil {
		return nil, nil, err
	}
	t, problems := l.loadTable(f, besides{}, nil)
	return t, problems, nil
}

// bytes is the memory the table takes.
func (t *table) bytes() int64 { return t.symbolBytes() + t.details.bytes() }

// symbolBytes is that without details.
func (t *table) symbolBytes() int64 {
	n := int64(tableOverhead)
	if t.golang != nil {
		n += t.golang.Bytes()
	}
	for _, s := range t.symbols {
		n += s.Bytes()
	}
	return n + t.inner
}

// segmentOf gives the address as linked of code of a file and the segment that
// holds it, from the program header, in whole pages as it gets mapped. Readers
// of the profile that have the file then compute a base address of 0.
func segmentOf(f *objfile.File, buildID string, loc sample.Location) (addr uint64, seg sample.Segment, ok bool) {
	addr, s, ok := f.Locate(loc.Offset)
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
		File:    loc.Object.Path,
		BuildID: buildID,
	}, true
}

// frames names an address as linked, the innermost function first; no frames mean that it has no
// name. With frames an error is about demangling, or it is dwarfsym.ErrLater: there may be more to
// tell another time. Otherwise it is about reading.
func (t *table) frames(addr uint64) ([]sample.Frame, error) {
	if t.golang != nil && t.golang.Contains(addr) {
		frames, err := t.golang.Lookup(addr)
		for i := range frames {
			frames[i].Function = shorten(frames[i].Function)
			frames[i].File = shorten(frames[i].File)
		}
		return frames, err
	}
	frames, told, later := t.lookup(addr)
	if len(frames) > 0 {
		return frames, t.demangler.left(frames)
	}
	name, err := t.name(addr)
	if err != nil {
		return nil, err
	}
	if later != nil && !errors.Is(later, dwarfsym.ErrLater) {
		later = fmt.Errorf("%w: %w", errDebug, later)
	}
	frames, err = t.demangler.whole(told, name)
	if err == nil {
		err = later
	}
	return frames, err
}

// name is the linker's name for an address.
func (t *table) name(addr uint64) (name string, err error) {
	for _, s := range t.symbols {
		if name, err = s.Lookup(addr); name != "" || err != nil {
			break
		}
	}
	return name, err
}

// nameUntil is name, and up to which address all have that.
func (t *table) nameUntil(addr uint64) (name string, past uint64, err error) {
	past = ^uint64(0)
	for _, s := range t.symbols {
		past = min(past, s.Next(addr))
	}
	name, err = t.name(addr)
	return name, past, err
}

var (
	// errDemangle marks a name that is shown as the linker has it.
	errDemangle = errors.New("keep mangled name")
	// errDebug marks debug information that cannot be read.
	errDebug = errors.New("read debug information")
)
