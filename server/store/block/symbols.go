// SPDX-License-Identifier: Apache-2.0

package block

import (
	"errors"
	"strings"

	"github.com/parquet-go/parquet-go"

	"github.com/fleetprof/fleetprof/server/columns"
	"github.com/fleetprof/fleetprof/server/dictionary"
)

const (
	// symbolPage is how many locations, and functions, a page has in all of its columns.
	symbolPage = 4096
	// locationColumns and functionColumns are those of locationRecord and functionRecord.
	locationColumns = 8
	functionColumns = 5
	// heldFunctions bounds the pages of functions in memory: those of locations that lie together mostly do too.
	heldFunctions = 16
)

// Symbols opens what stacks refer to.
func (b *Block) Symbols() (dictionary.Symbols, error) {
	if !b.Meta.Fingerprints { // nor has any of version 2
		return b.openWholeSymbols()
	}
	locations, err := b.pagesOf(&b.locations, locationsFile, locationColumns, int64(b.Locations))
	if err != nil {
		return nil, err
	}
	functions, err := b.pagesOf(&b.functions, functionsFile, functionColumns, int64(b.Functions))
	if err != nil {
		return nil, err
	}
	return &symbolFiles{block: b, locations: locations, functions: functions, known: map[int]*functionPage{}}, nil
}

// symbolFiles are the locations of a block with fingerprints, and what they refer to. They are not safe for concurrent use.
type symbolFiles struct {
	block                *Block
	locations, functions *pagedFile
	mappings             []mappingRecord
	known                map[int]*functionPage // at most heldFunctions
}

func (f *symbolFiles) Len() int     { return f.block.Locations }
func (f *symbolFiles) PageLen() int { return symbolPage }

// Fingerprints reads those of all locations.
func (f *symbolFiles) Fingerprints() (all []dictionary.Fingerprint, err error) {
	defer guard(f.locations.path, &err)
	t := f.locations.table(0, f.Len())
	t.pages(locationColumns-1, func(p parquet.Page) {
		values := p.Data()
		data, size := values.FixedLenByteArray()
		for ; size == len(dictionary.Fingerprint{}) && len(data) >= size; data = data[size:] {
			all = append(all, dictionary.Fingerprint(data))
		}
	})
	if all = checked(t, all); t.err != nil {
		return nil, &DamagedError{f.locations.path, t.err}
	}
	return all, nil
}

// Page reads a page of locations. A string may be there more than once: most are there once, and to
// find the others takes as long as all else.
func (f *symbolFiles) Page(i int) (_ *dictionary.Dictionary, err error) {
	if f.mappings == nil {
		if f.mappings, err = readTable[mappingRecord](f.block, mappingsFile); err != nil {
			return nil, err
		}
	}
	p := &symbolReader{
		files: f, d: &dictionary.Dictionary{Strings: []string{""}},
		mappings: map[uint32]uint32{}, functions: map[uint32]uint32{},
	}
	defer guard(f.locations.path, &err)
	first := i * symbolPage
	t := f.locations.table(int64(first), min(symbolPage, f.Len()-first))
	p.d.Locations = readLocations(t)
	if t.err != nil {
		return nil, &DamagedError{f.locations.path, t.err}
	}
	for i := range p.d.Locations {
		l := &p.d.Locations[i]
		if l.Mapping != 0 {
			if l.Mapping, err = p.mapping(l.Mapping - 1); err != nil {
				return nil, err
			}
		}
		for j := range l.Lines {
			if l.Lines[j].Function, err = p.function(l.Lines[j].Function); err != nil {
				return nil, err
			}
		}
	}
	p.d.Strings = compact(p.d.Strings)
	return p.d, nil
}

// compact copies texts into one: they may be parts of much larger ones, of which little else is needed.
func compact(texts []string) []string {
	var all strings.Builder
	for _, t := range texts {
		all.WriteString(t)
	}
	rest, copies := all.String(), make([]string, len(texts))
	for i, t := range texts {
		copies[i], rest = rest[:len(t)], rest[len(t):]
	}
	return copies
}

// symbolReader makes a dictionary of what a page of locations refers to.
type symbolReader struct {
	files               *symbolFiles
	d                   *dictionary.Dictionary
	mappings, functions map[uint32]uint32 // by the number in the block, that in d
}

func (p *symbolReader) text(s string) uint32 { return addText(&p.d.Strings, s) }

// addText adds a text to others, of which the first is the empty one, and gives its number.
func addText(to *[]string, text string) uint32 {
	if text == "" {
		return 0
	}
	*to = append(*to, text)
	return uint32(len(*to) - 1)
}

// mapping gives the number of a mapping in d plus 1.
func (p *symbolReader) mapping(i uint32) (uint32, error) {
	n, ok := p.mappings[i]
	if !ok {
		if int(i) >= len(p.files.mappings) {
			return 0, &DamagedError{p.files.locations.path, errReference}
		}
		p.d.Mappings = append(p.d.Mappings, p.files.mappings[i].mapping(p.text))
		n = uint32(len(p.d.Mappings))
		p.mappings[i] = n
	}
	return n, nil
}

// mapping makes a mapping, whose strings number keeps.
func (m *mappingRecord) mapping(number func(text string) uint32) columns.Mapping {
	return columns.Mapping{
		Start: m.Start, Limit: m.Limit, Offset: m.Offset,
		File: number(m.File), BuildID: number(m.BuildID), Resolved: columns.Resolved(m.Resolved),
	}
}

// function gives the number of a function in d.
func (p *symbolReader) function(i uint32) (uint32, error) {
	n, ok := p.functions[i]
	if !ok {
		if int(i) >= p.files.block.Functions {
			return 0, &DamagedError{p.files.locations.path, errReference}
		}
		page, err := p.files.functionPage(int(i / symbolPage))
		if err != nil {
			return 0, err
		}
		f := page.functions[i%symbolPage]
		f.Name, f.SystemName, f.File = p.text(page.texts[f.Name]), p.text(page.texts[f.SystemName]), p.text(page.texts[f.File])
		n = uint32(len(p.d.Functions))
		p.d.Functions = append(p.d.Functions, f)
		p.functions[i] = n
	}
	return n, nil
}

// functionPage is a page of functions, with strings of its own.
type functionPage struct {
	functions []columns.Function
	texts     []string
}

func (f *symbolFiles) functionPage(i int) (_ *functionPage, err error) {
	if p := f.known[i]; p != nil {
		return p, nil
	}
	defer guard(f.functions.path, &err)
	p := &functionPage{texts: []string{""}}
	first := i * symbolPage
	t := f.functions.table(int64(first), min(symbolPage, f.block.Functions-first))
	p.functions = readFunctions(t, func(text string) uint32 { return addText(&p.texts, text) })
	if t.err != nil {
		return nil, &DamagedError{f.functions.path, t.err}
	}
	if len(f.known) == heldFunctions {
		clear(f.known)
	}
	f.known[i] = p
	return p, nil
}

// readFunctions reads functions, whose strings number keeps.
func readFunctions(t *tableReader, number func(text string) uint32) []columns.Function {
	names, systemNames, files, lines := t.texts(1, number), t.texts(2, number), t.texts(3, number), t.int64s(4)
	all := make([]columns.Function, t.rows)
	for i := range all {
		all[i] = columns.Function{Name: names[i], SystemName: systemNames[i], File: files[i], StartLine: lines[i]}
	}
	return all
}

var errLines = errors.New("the columns of lines differ in length")

// readLocations reads locations. Their mappings and functions may be ones that are not there.
func readLocations(t *tableReader) []dictionary.Location {
	addresses, mappings, folded := t.int64s(1), t.uint32s(2), t.bools(3)
	lengths, functions, lines, places := t.lengths(4), t.elements32(4), t.elements64(5), t.elements64(6)
	if len(lines) != len(functions) || len(places) != len(functions) {
		t.err = errors.Join(t.err, errLines)
	}
	if t.err != nil {
		return nil
	}
	lists := make([]columns.Line, len(functions))
	for i, f := range functions {
		lists[i] = columns.Line{Function: f, Line: lines[i], Column: places[i]}
	}
	all := make([]dictionary.Location, t.rows)
	for i, n := range lengths {
		if n > len(lists) {
			t.err = errLines
			return nil
		}
		all[i] = dictionary.Location{Address: uint64(addresses[i]), Mapping: mappings[i], Folded: folded[i], Lines: lists[:n:n]}
		lists = lists[n:]
	}
	return all
}
