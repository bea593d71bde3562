// SPDX-License-Identifier: Apache-2.0

package block

import (
	"errors"
	"path/filepath"
	"slices"

	"github.com/fleetprof/fleetprof/server/columns"
	"github.com/fleetprof/fleetprof/server/dictionary"
)

// Records of the tables. The field id, where there is one, is the number of the
// record, for those who join tables: it counts up from 0.
type (
	rowRecord struct {
		Labels uint32 `parquet:"labels,delta,zstd"`
		Stack  uint32 `parquet:"stack,delta,zstd"`
		Window uint32 `parquet:"window,delta,zstd"`
		Value  int64  `parquet:"value,dict,zstd"`
		Count  int64  `parquet:"count,dict,zstd"`
	}
	windowRecord struct {
		ID         uint32   `parquet:"id,delta,zstd"`
		Start      int64    `parquet:"start,delta,zstd,timestamp(nanosecond)"`
		End        int64    `parquet:"end,delta,zstd,timestamp(nanosecond)"`
		TypeID     uint32   `parquet:"type,delta,zstd"`
		Name       string   `parquet:"name,dict,zstd"`
		Sample     string   `parquet:"sample_type,dict,zstd"`
		Unit       string   `parquet:"sample_unit,dict,zstd"`
		PeriodType string   `parquet:"period_type,dict,zstd"`
		PeriodUnit string   `parquet:"period_unit,dict,zstd"`
		Period     int64    `parquet:"period,dict,zstd"`
		Profiles   uint32   `parquet:"profiles,delta,zstd"`
		Source     string   `parquet:"source,dict,zstd"`
		Comments   []string `parquet:"comments,list"`
	}
	seriesRecord struct {
		Type   uint32 `parquet:"type,delta,zstd"`
		Labels uint32 `parquet:"labels,delta,zstd"`
		First  int64  `parquet:"first_row,delta,zstd"`
		Rows   int64  `parquet:"rows,delta,zstd"`
	}
	stackRecord struct {
		ID       uint32 `parquet:"id,delta,zstd"`
		Parent   uint32 `parquet:"parent,delta,zstd"`
		Location uint32 `parquet:"location,delta,zstd"`
	}
	locationRecord struct {
		ID      uint32 `parquet:"id,delta,zstd"`
		Address uint64 `parquet:"address,zstd"`
		// Mapping is a number plus 1, or 0 for none.
		Mapping uint32       `parquet:"mapping,delta,zstd"`
		Folded  bool         `parquet:"folded,zstd"`
		Lines   []lineRecord `parquet:"lines,list"`
	}
	lineRecord struct {
		Function uint32 `parquet:"function,delta,zstd"`
		Line     int64  `parquet:"line,delta,zstd"`
		Column   int64  `parquet:"column,delta,zstd"`
	}
	functionRecord struct {
		ID         uint32 `parquet:"id,delta,zstd"`
		Name       string `parquet:"name,zstd"`
		SystemName string `parquet:"system_name,zstd"`
		File       string `parquet:"file,dict,zstd"`
		StartLine  int64  `parquet:"start_line,delta,zstd"`
	}
	mappingRecord struct {
		ID      uint32 `parquet:"id,delta,zstd"`
		Start   uint64 `parquet:"start,zstd"`
		Limit   uint64 `parquet:"limit,zstd"`
		Offset  uint64 `parquet:"offset,zstd"`
		File    string `parquet:"file,zstd"`
		BuildID string `parquet:"build_id,zstd"`
		// Resolved has the bits of columns.Resolved.
		Resolved uint32 `parquet:"resolved,zstd"`
	}
	idRecord struct {
		ID     [16]byte `parquet:"id"`
		Stored int64    `parquet:"stored,delta,zstd,timestamp(millisecond)"`
	}
)

// ID is what a profile that went into the block was called, and when it was stored, in
// milliseconds since the epoch.
type ID struct {
	ID     [16]byte
	Stored int64
}

// IDs gives the ids that the block remembers.
func (b *Block) IDs() ([]ID, error) {
	records, err := readTable[idRecord](b, idsFile)
	ids := make([]ID, len(records))
	for i, r := range records {
		ids[i] = ID(r)
	}
	return ids, err
}

var errReference = errors.New("an entry refers to one that is not there")

// Index reads the index.
func (b *Block) Index() (*Index, error) {
	x := &Index{Types: b.Types}
	windows, err := readTable[windowRecord](b, windowsFile)
	if err != nil {
		return nil, err
	}
	for _, w := range windows {
		x.Windows = append(x.Windows, Window{w.Start, w.End, w.TypeID, w.Period, w.Profiles, w.Source, w.Comments})
	}
	ok := len(x.Windows) == b.Windows
	err = b.readColumns(seriesFile, 4, func(t *tableReader) {
		types, labels, first, rows := t.uint32s(0), t.uint32s(1), t.int64s(2), t.int64s(3)
		x.Series = make([]Series, t.rows)
		for i := range x.Series {
			s := Series{types[i], labels[i], first[i], rows[i]}
			ok = ok && int(s.Type) < len(x.Types) && (b.Version == longLabels || int(s.LabelSet) < b.LabelSets) && s.First >= 0 && s.Rows >= 0 && s.First <= b.Meta.Rows-s.Rows
			x.Series[i] = s
		}
	})
	if err != nil {
		return nil, err
	}
	// Each set has a series.
	ok = ok && (b.Version == longLabels || b.LabelSets <= len(x.Series))
	for i := range x.Windows {
		ok = ok && int(x.Windows[i].Type) < len(x.Types)
	}
	if !ok {
		return nil, &DamagedError{filepath.Join(b.dir, seriesFile), errReference}
	}
	return x, nil
}

// Symbols reads what stacks refer to. A string may be there more than once: most are there once, and to
// find the others takes as long as all else.
func (b *Block) Symbols() (*dictionary.Dictionary, error) {
	d := &dictionary.Dictionary{Strings: []string{""}}
	number := func(text string) uint32 {
		if text == "" {
			return 0
		}
		d.Strings = append(d.Strings, text)
		return uint32(len(d.Strings) - 1)
	}
	mappings, err := readTable[mappingRecord](b, mappingsFile)
	if err != nil {
		return nil, err
	}
	for _, m := range mappings {
		d.Mappings = append(d.Mappings, columns.Mapping{
			Start: m.Start, Limit: m.Limit, Offset: m.Offset,
			File: number(m.File), BuildID: number(m.BuildID), Resolved: columns.Resolved(m.Resolved),
		})
	}
	err = b.readColumns(functionsFile, 5, func(t *tableReader) {
		d.Strings = slices.Grow(d.Strings, 2*t.rows)
		names, systemNames, files, lines := t.texts(1, number), t.texts(2, number), t.texts(3, number), t.int64s(4)
		d.Functions = make([]columns.Function, t.rows)
		for i := range d.Functions {
			d.Functions[i] = columns.Function{Name: names[i], SystemName: systemNames[i], File: files[i], StartLine: lines[i]}
		}
	})
	if err != nil {
		return nil, err
	}
	if err := b.readLocations(d); err != nil {
		return nil, err
	}
	return d, nil
}

func (b *Block) readLocations(d *dictionary.Dictionary) error {
	ok := true
	err := b.readColumns(locationsFile, 7, func(t *tableReader) {
		addresses, mappings, folded := t.int64s(1), t.uint32s(2), t.bools(3)
		lengths, functions, lines, places := t.lengths(4), t.elements32(4), t.elements64(5), t.elements64(6)
		if ok = len(lines) == len(functions) && len(places) == len(functions); !ok {
			return
		}
		all := make([]columns.Line, len(functions))
		for i, f := range functions {
			ok = ok && int(f) < len(d.Functions)
			all[i] = columns.Line{Function: f, Line: lines[i], Column: places[i]}
		}
		d.Locations = make([]dictionary.Location, t.rows)
		for i, n := range lengths {
			if ok = ok && int(mappings[i]) <= len(d.Mappings) && n <= len(all); !ok {
				return
			}
			d.Locations[i] = dictionary.Location{Address: uint64(addresses[i]), Mapping: mappings[i], Folded: folded[i], Lines: all[:n:n]}
			all = all[n:]
		}
	})
	if err == nil && !ok {
		err = &DamagedError{filepath.Join(b.dir, locationsFile), errReference}
	}
	return err
}

// stringTable numbers strings.
type stringTable struct {
	all   []string
	index map[string]uint32
}

func newStrings() *stringTable { return &stringTable{[]string{""}, map[string]uint32{"": 0}} }

func (t *stringTable) number(s string) uint32 {
	id, ok := t.index[s]
	if !ok {
		id = uint32(len(t.all))
		t.index[s] = id
		t.all = append(t.all, s)
	}
	return id
}
