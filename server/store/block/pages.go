// SPDX-License-Identifier: Apache-2.0

package block

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"

	"github.com/parquet-go/parquet-go"
)

// pagedFile is a file of a block of which pages are read when they are asked for, opened once
// for all readers. Its pages have checksums of their own.
type pagedFile struct {
	file   *os.File
	path   string
	schema *parquet.Schema
	groups []rowGroup
}

// anyColumns stands for as many columns as the schema has.
const anyColumns = -1

// rowGroup is a part of the file; first is the number of its first row.
type rowGroup struct {
	first, rows int64
	columns     []parquet.ColumnChunk
}

// pagesOf gives a file that was opened before, or else opens it.
func (b *Block) pagesOf(opened **pagedFile, name string, columns int, rows int64) (*pagedFile, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if *opened != nil {
		return *opened, nil
	}
	path := filepath.Join(b.dir, name)
	f, err := os.Open(path)
	if err != nil {
		return nil, &DamagedError{path, err}
	}
	o := &pagedFile{file: f, path: path}
	if err := o.read(b.Files[name], columns, rows); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	*opened = o
	return o, nil
}

// close closes the file if it was ever opened.
func (o *pagedFile) close() error {
	if o == nil {
		return nil
	}
	return o.file.Close()
}

// read checks and reads what lies behind the pages.
func (o *pagedFile) read(want File, columns int, rows int64) (err error) {
	if err := o.checkTail(want); err != nil {
		return err
	}
	if err := checkFooter(o.file, want.Bytes); err != nil {
		return &DamagedError{o.path, err}
	}
	defer guard(o.path, &err)
	file, err := parquet.OpenFile(o.file, want.Bytes, parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true))
	if err != nil {
		return &DamagedError{o.path, err}
	}
	o.schema = file.Schema()
	if columns == anyColumns {
		columns = len(o.schema.Columns())
	}
	var has int64
	if o.groups, has, err = groupsOf(file, columns); err != nil {
		return &DamagedError{o.path, err}
	}
	if has != rows {
		return &DamagedError{o.path, fmt.Errorf("it has %d rows, want %d", has, rows)}
	}
	for _, g := range o.groups {
		for _, c := range g.columns {
			if _, err := c.OffsetIndex(); err != nil { // by which its pages are found from then on
				return &DamagedError{o.path, err}
			}
		}
	}
	return nil
}

// groupsOf gives the row groups of a file, which must have so many columns, and the rows in all of them.
func groupsOf(file *parquet.File, columns int) (all []rowGroup, rows int64, err error) {
	for _, g := range file.RowGroups() {
		chunks := g.ColumnChunks()
		if len(chunks) != columns {
			return nil, 0, fmt.Errorf("it has %d columns, want %d", len(chunks), columns)
		}
		all = append(all, rowGroup{rows, g.NumRows(), chunks})
		rows += g.NumRows()
	}
	return all, rows, nil
}

// table reads n rows from one on.
func (o *pagedFile) table(first int64, n int) *tableReader {
	return &tableReader{path: o.path, groups: o.groups, first: first, rows: n}
}

func (o *pagedFile) checkTail(want File) error {
	if want.From < 0 || want.From > want.Bytes {
		return &DamagedError{o.path, errReference}
	}
	tail := crc32.New(castagnoli)
	if _, err := io.Copy(tail, io.NewSectionReader(o.file, want.From, want.Bytes-want.From)); err != nil {
		return err
	}
	if tail.Sum32() != want.CRC {
		return &DamagedError{o.path, errChecksum}
	}
	return nil
}

// column reads one column. It keeps the page that it read last, since the series
// that are asked for are often close to each other.
type column[T any] struct {
	open   *pagedFile
	number int
	copy   func(to []T, p parquet.Page) []T

	group int // of pages
	pages parquet.Pages
	first int64 // the row that page begins with
	page  []T
	out   []T
}

func newColumn[T any](o *pagedFile, number int, copy func(to []T, p parquet.Page) []T) *column[T] {
	return &column[T]{open: o, number: number, copy: copy}
}

// read gives n values from a row on, until the next call.
func (c *column[T]) read(row int64, n int) ([]T, error) {
	c.out = c.out[:0]
	for len(c.out) < n {
		at := row + int64(len(c.out))
		if at < c.first || at >= c.first+int64(len(c.page)) {
			if err := c.load(at); err != nil {
				return nil, err
			}
		}
		part := c.page[at-c.first:]
		part = part[:min(len(part), n-len(c.out))]
		if len(part) == n {
			return part, nil
		}
		c.out = append(c.out, part...)
	}
	return c.out, nil
}

// load reads the page with a row, from that row on.
func (c *column[T]) load(row int64) error {
	if c.pages == nil || row < c.open.groups[c.group].first || row >= c.open.groups[c.group].first+c.open.groups[c.group].rows {
		if err := c.enter(row); err != nil {
			return err
		}
	}
	if err := c.pages.SeekToRow(row - c.open.groups[c.group].first); err != nil {
		return err
	}
	p, err := c.pages.ReadPage()
	if err != nil {
		return err
	}
	defer parquet.Release(p)
	c.first, c.page = row, c.copy(c.page[:0], p)
	if len(c.page) == 0 {
		return errReference
	}
	return nil
}

// enter opens the row group of a row.
func (c *column[T]) enter(row int64) error {
	if err := c.close(); err != nil {
		return err
	}
	for i, g := range c.open.groups {
		if row >= g.first && row < g.first+g.rows {
			c.group, c.pages = i, g.columns[c.number].Pages()
			return nil
		}
	}
	return errReference
}

func (c *column[T]) close() error {
	if c.pages == nil {
		return nil
	}
	pages := c.pages
	c.pages = nil
	return pages.Close()
}

func copy32(to []uint32, p parquet.Page) []uint32 {
	values := p.Data()
	for _, v := range values.Int32() {
		to = append(to, uint32(v))
	}
	return to
}

// copy64 also reads pages of which the values are numbers of a dictionary.
func copy64(to []int64, p parquet.Page) []int64 {
	values := p.Data()
	d := p.Dictionary()
	if d == nil {
		return append(to, values.Int64()...)
	}
	all := d.Page().Data()
	known := all.Int64()
	for _, i := range values.Int32() {
		to = append(to, known[i])
	}
	return to
}
