// SPDX-License-Identifier: Apache-2.0

package block

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/parquet-go/parquet-go"
)

// tableReader reads the columns of some rows of a table in a row, which takes a fraction of the time
// that records would take. After the first error it gives nothing.
type tableReader struct {
	path   string
	groups []rowGroup
	first  int64
	rows   int
	err    error
}

// readColumns opens a file of a block, whose checksum must be right, and has f read its
// columns. Errors of f are those of the reader.
func (b *Block) readColumns(name string, columns int, f func(t *tableReader)) (err error) {
	path := filepath.Join(b.dir, name)
	in, err := b.readWhole(name)
	if err != nil {
		return &DamagedError{path, err}
	}
	defer guard(path, &err)
	file, err := parquet.OpenFile(in, in.Size(), parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true))
	if err != nil {
		return &DamagedError{path, err}
	}
	t := &tableReader{path: path, rows: int(file.NumRows())}
	if t.groups, _, err = groupsOf(file, columns); err != nil {
		return &DamagedError{path, err}
	}
	f(t)
	if t.err != nil {
		return &DamagedError{path, t.err}
	}
	return nil
}

// pages calls f with what pages of a column have of the rows.
func (t *tableReader) pages(column int, f func(p parquet.Page)) {
	for _, g := range t.groups {
		from, to := max(t.first, g.first)-g.first, min(t.first+int64(t.rows), g.first+g.rows)-g.first
		if from >= to || t.err != nil {
			continue
		}
		pages := g.columns[column].Pages()
		if from > 0 {
			t.err = pages.SeekToRow(from)
		}
		for t.err == nil && from < to {
			p, err := pages.ReadPage()
			if err != nil {
				t.err = err
				break
			}
			if n := p.NumRows(); n > to-from {
				f(p.Slice(0, to-from))
				from = to
			} else {
				f(p)
				from += max(n, 1)
			}
			parquet.Release(p)
		}
		t.err = errors.Join(t.err, pages.Close())
	}
}

// uint32s reads a column of numbers, of which there is one for each row.
func (t *tableReader) uint32s(column int) []uint32 {
	all := make([]uint32, 0, t.rows)
	t.pages(column, func(p parquet.Page) { all = copy32(all, p) })
	return checked(t, all)
}

// int64s is the same for wider numbers.
func (t *tableReader) int64s(column int) []int64 {
	all := make([]int64, 0, t.rows)
	t.pages(column, func(p parquet.Page) { all = copy64(all, p) })
	return checked(t, all)
}

// bools is the same for truth values, which are bits, the lowest of a byte first.
func (t *tableReader) bools(column int) []bool {
	all := make([]bool, 0, t.rows)
	t.pages(column, func(p parquet.Page) {
		values := p.Data()
		bits := values.Boolean()
		for i := range int(p.NumValues()) {
			all = append(all, bits[i/8]>>(i%8)&1 != 0)
		}
	})
	return checked(t, all)
}

// texts reads a column of strings as their numbers, which number gives.
func (t *tableReader) texts(column int, number func(text string) uint32) []uint32 {
	return checked(t, t.elementTexts(column, number))
}

// elementTexts is the same for a column of a list, all rows one after another.
func (t *tableReader) elementTexts(column int, number func(text string) uint32) (all []uint32) {
	texts := texts{number: number}
	t.pages(column, func(p parquet.Page) { all = texts.take(all, p) })
	return all
}

// texts reads pages of strings as numbers.
type texts struct {
	number func(text string) uint32
	// known are the numbers of the texts of a dictionary, which several pages have in common.
	known []uint32
	of    parquet.Dictionary
}

// take copies a page.
func (t *texts) take(to []uint32, p parquet.Page) []uint32 {
	d := p.Dictionary()
	if d == nil {
		return appendTexts(to, p, t.number)
	}
	if d != t.of {
		t.of, t.known = d, appendTexts(t.known[:0], d.Page(), t.number)
	}
	values := p.Data()
	for _, i := range values.Int32() {
		to = append(to, t.known[i])
	}
	return to
}

// appendTexts copies the strings of a page at once: each of them keeps all.
func appendTexts(to []uint32, p parquet.Page, number func(text string) uint32) []uint32 {
	values := p.Data()
	all, offsets := values.ByteArray()
	text := string(all)
	for i := range len(offsets) - 1 { // those that are not null
		to = append(to, number(text[offsets[i]:offsets[i+1]]))
	}
	return to
}

// checked gives a column if it has an entry for each row.
func checked[T any](t *tableReader, all []T) []T {
	if t.err == nil && len(all) != t.rows {
		t.err = fmt.Errorf("a column has %d entries, want %d", len(all), t.rows)
	}
	if t.err != nil {
		return make([]T, t.rows)
	}
	return all
}

// lengths reads from one column of a list how long the list of each row is.
func (t *tableReader) lengths(column int) []int {
	all := make([]int, 0, t.rows)
	t.pages(column, func(p parquet.Page) {
		defined := p.DefinitionLevels()
		for i, repeated := range p.RepetitionLevels() {
			if repeated == 0 {
				all = append(all, 0)
			}
			if defined[i] > 0 && len(all) > 0 {
				all[len(all)-1]++
			}
		}
	})
	return checked(t, all)
}

// elements32 and elements64 read a column of a list, all rows one after another.
func (t *tableReader) elements32(column int) (all []uint32) {
	t.pages(column, func(p parquet.Page) { all = copy32(all, p) })
	return all
}

func (t *tableReader) elements64(column int) (all []int64) {
	t.pages(column, func(p parquet.Page) { all = copy64(all, p) })
	return all
}
