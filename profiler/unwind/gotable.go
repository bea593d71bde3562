// SPDX-License-Identifier: Apache-2.0

package unwind

import (
	"errors"
	"strings"

	"github.com/fleetprof/fleetprof/internal/gopclntab"
	"github.com/fleetprof/fleetprof/internal/objfile"
)

// goTable reads .gopclntab for its tables of stack depths. Layouts of Go 1.16
// to 1.26 are read; programs of older ones are left to frame pointers.
type goTable struct {
	*arch
	*gopclntab.Reader
	file *objfile.File
	// seen is the function that was looked at last: often as the one behind another,
	// and is then looked at for itself.
	seen goSpecial
}

// goSpecial is what is special about a function.
type goSpecial struct {
	gopclntab.Entry
	depths uint32 // its table
	special
}

// openGo returns nil if the file has no Go table, or none that is understood.
func openGo(f *objfile.File, a *arch) (source, error) {
	s, ok := gopclntab.Section(f)
	if !ok {
		return nil, nil
	}
	w, err := newWindow(f, s)
	if err != nil {
		return nil, err
	}
	t, err := gopclntab.Open(f)
	if err == nil && t.Version >= gopclntab.Go116 {
		err = t.FindModule()
	}
	if errors.Is(err, gopclntab.ErrUnsupported) || err == nil && t.Version < gopclntab.Go116 {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &goTable{arch: a, Reader: t.ReaderThrough(w), file: f}, nil
}

// goFunction is a function of the table.
type goFunction struct {
	gopclntab.Entry
	// next is the entry behind it, the end of the text for the last one.
	next gopclntab.Entry
}

// functionAt reads the i-th function.
func (g *goTable) functionAt(i uint64) (goFunction, error) {
	var e [2]gopclntab.Entry
	_, err := g.Entries(e[:], i)
	return goFunction{e[0], e[1]}, err
}

func (f goFunction) extent() extent { return extent{f.Start, f.next.Start} }

// spans lists the functions by their numbers.
func (g *goTable) spans(add func(start, size, ref uint64) error) (damaged int, err error) {
	const atOnce = 64
	for i := uint64(0); i < g.Count; i += atOnce {
		var entries [atOnce + 1]gopclntab.Entry
		n, err := g.Entries(entries[:], i)
		if isDamage(err) {
			return damaged + 1, nil
		}
		if err != nil {
			return damaged, err
		}
		for j, e := range entries[:n-1] {
			next := entries[j+1].Start
			if next < e.Start {
				return damaged + 1, nil // not sorted: nothing behind can be believed
			}
			if next == e.Start {
				continue
			}
			if err := add(e.Start, next-e.Start, i+uint64(j)); err != nil {
				return damaged, err
			}
		}
	}
	return damaged, nil
}

const goWritesSP = 2 // flag of functions that write SP, internal/abi/symtab.go

// special reads a function's record and finds out what is special about it.
func (g *goTable) special(e gopclntab.Entry) (goSpecial, error) {
	if e == g.seen.Entry {
		return g.seen, nil
	}
	r, err := g.Record(e)
	if err != nil {
		return goSpecial{}, err
	}
	g.seen = goSpecial{Entry: e, depths: r.Depths}
	// Since Go 1.18 the functions in question have a number or, being assembly, a
	// flag.
	if r.ID|r.Flags == 0 && g.Version >= gopclntab.Go118 {
		return g.seen, nil
	}
	const longest = 64 // of the names that matter, in bytes
	name, err := g.Name(r.Name, longest)
	if err != nil {
		g.seen = goSpecial{}
		return goSpecial{}, err
	}
	if g.seen.special = specialOf(strings.TrimSuffix(name, ".abi0")); g.seen.special == ordinary && r.Flags&goWritesSP != 0 {
		g.seen.special = writesSP
	}
	return g.seen, nil
}
