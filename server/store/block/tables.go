// SPDX-License-Identifier: Apache-2.0

package block

import (
	"errors"
	"path/filepath"
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
		// Process is 0 for none.
		Process uint32 `parquet:"process,delta,zstd"`
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
		// Since version 4:
		FirstSum int64 `parquet:"first_sum,delta,zstd"`
		Sums     int64 `parquet:"sums,delta,zstd"`
	}
	// sumRecord is a sum of rows over all windows.
	sumRecord struct {
		Labels  uint32 `parquet:"labels,delta,zstd"`
		Stack   uint32 `parquet:"stack,delta,zstd"`
		Value   int64  `parquet:"value,dict,zstd"`
		Count   int64  `parquet:"count,dict,zstd"`
		Process uint32 `parquet:"process,delta,zstd"`
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
		// Fingerprint is a dictionary.Fingerprint, or 0 if the block has none.
		Fingerprint [16]byte `parquet:"fingerprint,zstd"`
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

// windowColumns are those of windowRecord; comments are the last.
const windowColumns = 13

var errReference = errors.New("an entry refers to one that is not there")

// Index reads the index.
func (b *Block) Index() (*Index, error) {
	x := &Index{Types: b.Types, LabelSets: b.LabelSets, Processes: b.Processes}
	err := b.readColumns(windowsFile, windowColumns, func(t *tableReader) { x.Windows = readWindows(t) })
	if err != nil {
		return nil, err
	}
	ok := len(x.Windows) == b.Windows
	columns := 6
	if b.Version <= version3 {
		columns = 4
	}
	err = b.readColumns(seriesFile, columns, func(t *tableReader) {
		types, labels, first, rows := t.uint32s(0), t.uint32s(1), t.int64s(2), t.int64s(3)
		firstSum, sums := make([]int64, t.rows), make([]int64, t.rows)
		if columns == 6 {
			firstSum, sums = t.int64s(4), t.int64s(5)
		}
		x.Series.Grow(t.rows)
		for i, n := range rows {
			if b.Version == version2 { // which does not say how many there are
				x.LabelSets = max(x.LabelSets, int(labels[i])+1)
			}
			ok = ok && int(types[i]) < len(x.Types) && int(labels[i]) < x.LabelSets && first[i] == last(x.Series.ends) && n >= 0 && n <= b.Meta.Rows-first[i] &&
				firstSum[i] == last(x.Series.sumEnds) && sums[i] >= 0 && sums[i] <= b.Meta.Sums-firstSum[i]
			x.Series.Add(types[i], labels[i], n, sums[i])
		}
	})
	if err != nil {
		return nil, err
	}
	// Each set has a series.
	ok = ok && last(x.Series.ends) == b.Meta.Rows && last(x.Series.sumEnds) == b.Meta.Sums && x.LabelSets <= x.Series.Len()
	for i := range x.Windows {
		ok = ok && int(x.Windows[i].Type) < len(x.Types)
	}
	if !ok {
		return nil, &DamagedError{filepath.Join(b.dir, seriesFile), errReference}
	}
	return x, nil
}

// readWindows reads windows, of which the texts of types are left out: the number says them.
func readWindows(t *tableReader) []Window {
	texts := newStrings()
	starts, ends, types := t.int64s(1), t.int64s(2), t.uint32s(3)
	periods, profiles, sources := t.int64s(9), t.uint32s(10), t.texts(11, texts.number)
	lengths, comments := t.lengths(windowColumns-1), t.elementTexts(windowColumns-1, texts.number)
	all := make([]Window, t.rows)
	for i := range all {
		w := Window{Start: starts[i], End: ends[i], Type: types[i], Period: periods[i], Profiles: profiles[i], Source: texts.all[sources[i]]}
		if lengths[i] > len(comments) {
			t.err = errors.Join(t.err, errReference)
			return nil
		}
		for _, c := range comments[:lengths[i]] {
			w.Comments = append(w.Comments, texts.all[c])
		}
		comments = comments[lengths[i]:]
		all[i] = w
	}
	return all
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
