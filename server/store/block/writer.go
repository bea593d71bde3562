// SPDX-License-Identifier: Apache-2.0

package block

import (
	"errors"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"

	"github.com/parquet-go/parquet-go"

	"github.com/fleetprof/fleetprof/sample"
	"github.com/fleetprof/fleetprof/server/dictionary"
	"github.com/fleetprof/fleetprof/server/durable"
)

const (
	// sourceLabel names who a profile is from.
	sourceLabel = sample.LabelHost
	// serviceLabel names what a sample is of.
	serviceLabel = sample.LabelService
	// groupRows bounds a row group, which is in memory, compressed, until it is whole.
	groupRows = 2 << 20
	// pageBytes is how large a page of a column is before it is encoded: small, for
	// those who look for the rows of few series; large, to compress well.
	pageBytes = 32 << 10
	// Fingerprints, in bytes, are written if they are so few, or at most such a part of rows and stacks: where
	// nearly each location is one that no other block has, they would take room for nothing.
	freePrints = 1 << 20
	printShare = 6
	// maxValues bounds the dictionary of a column of values, in bytes.
	maxValues = 1 << 20
)

// writer writes the files of a block. After the first error it does nothing.
type writer struct {
	dir   string
	files map[string]File
	err   error
}

// create writes a file with f, down to the disk, and enters its checksum from the
// offset on that f gives.
func (w *writer) create(name string, f func(out *os.File) (from int64, err error)) {
	if w.err != nil {
		return
	}
	path := filepath.Join(w.dir, name)
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		w.err = err
		return
	}
	from, err := f(file)
	if err == nil {
		err = file.Sync()
	}
	if err == nil {
		w.files[name], err = describe(file, from)
	}
	w.err = errors.Join(err, file.Close())
}

func describe(file *os.File, from int64) (File, error) {
	info, err := file.Stat()
	if err != nil {
		return File{}, err
	}
	sum := crc32.New(castagnoli)
	_, err = io.Copy(sum, io.NewSectionReader(file, from, info.Size()-from))
	return File{Bytes: info.Size(), CRC: sum.Sum32(), From: from}, err
}

// finish writes meta.json and makes the names durable.
func (w *writer) finish(m Meta) {
	files := w.files
	w.files = map[string]File{}
	w.create(metaFile, func(out *os.File) (int64, error) {
		text, err := m.encode()
		if err == nil {
			_, err = out.Write(text)
		}
		return 0, err
	})
	w.files = files
	if w.err != nil {
		return
	}
	w.err = durable.SyncDir(w.dir)
}

// table writes a whole table; record gives record i.
func table[T any](w *writer, name string, n int, record func(i int) T) {
	w.create(name, func(out *os.File) (int64, error) {
		t := parquet.NewGenericWriter[T](out)
		return 0, errors.Join(writeRecords(t, n, runRows, record, func() error { return nil }), t.Close())
	})
}

// paged is the same for a table whose pages are read one by one: each has the same rows in all columns, unless
// strings make it too large.
func paged[T any](w *writer, name string, n, page int, record func(i int) T) {
	w.create(name, func(out *os.File) (int64, error) {
		t := parquet.NewGenericWriter[T](out, parquet.MaxRowsPerRowGroup(groupRows))
		err := writeRecords(t, n, page, record, func() error {
			for _, c := range t.ColumnWriters() {
				if err := c.Flush(); err != nil {
					return err
				}
			}
			return nil
		})
		if err := errors.Join(err, t.Close()); err != nil {
			return 0, err
		}
		return endOfPages(out)
	})
}

// writeRecords writes n records, so many at a time, after each of which it calls then.
func writeRecords[T any](t *parquet.GenericWriter[T], n, atOnce int, record func(i int) T, then func() error) error {
	buffer := make([]T, 0, min(n, atOnce))
	for i := range n {
		buffer = append(buffer, record(i))
		if len(buffer) < cap(buffer) && i < n-1 {
			continue
		}
		if _, err := t.Write(buffer); err != nil {
			return err
		}
		if err := then(); err != nil {
			return err
		}
		buffer = buffer[:0]
	}
	return nil
}

// rowWriter writes rows.parquet or sums.parquet.
type rowWriter[T any] struct {
	w       *writer
	name    string
	file    *os.File
	parquet *parquet.GenericWriter[T]
	buffer  []T
	rows    int64
}

func newRowWriter[T any](w *writer, name string) (*rowWriter[T], error) {
	file, err := os.OpenFile(filepath.Join(w.dir, name), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	return &rowWriter[T]{w: w, name: name, file: file, parquet: parquet.NewGenericWriter[T](file,
		parquet.MaxRowsPerRowGroup(groupRows), parquet.PageBufferSize(pageBytes), parquet.DictionaryMaxBytes(maxValues),
		parquet.SkipPageBounds("stack"), parquet.SkipPageBounds("value"), parquet.SkipPageBounds("count"),
	)}, nil
}

func (r *rowWriter[T]) write(record T) error {
	r.buffer = append(r.buffer, record)
	r.rows++
	if len(r.buffer) < runRows {
		return nil
	}
	return r.flush()
}

func (r *rowWriter[T]) flush() error {
	_, err := r.parquet.Write(r.buffer)
	r.buffer = r.buffer[:0]
	return err
}

// close ends the file, down to the disk.
func (r *rowWriter[T]) close() error {
	err := r.flush()
	if err == nil {
		err = r.parquet.Close()
	}
	if err == nil {
		err = r.file.Sync()
	}
	if err == nil {
		var from int64
		if from, err = endOfPages(r.file); err == nil {
			r.w.files[r.name], err = describe(r.file, from)
		}
	}
	return errors.Join(err, r.file.Close())
}

// endOfPages gives the offset behind the last page of a Parquet file.
func endOfPages(file *os.File) (end int64, err error) {
	info, err := file.Stat()
	if err != nil {
		return 0, err
	}
	p, err := parquet.OpenFile(file, info.Size(), parquet.SkipPageIndex(true))
	if err != nil {
		return 0, err
	}
	for _, g := range p.Metadata().RowGroups {
		for _, c := range g.Columns {
			from := c.MetaData.DataPageOffset
			if d := c.MetaData.DictionaryPageOffset; d != 0 && d < from {
				from = d
			}
			end = max(end, from+c.MetaData.TotalCompressedSize)
		}
	}
	return end, nil
}

// writeTables writes all tables but the rows and labels.
func (m *merger) writeTables(w *writer, ids []ID) {
	d := m.dict
	text := func(i uint32) string { return d.Strings[i] }
	locations := newOrder(len(d.Locations))
	for i := 1; i < len(d.Stacks); i++ {
		locations.add(d.Stacks[i].Location)
	}
	functions := newOrder(len(d.Functions))
	for _, l := range locations.all {
		for _, line := range d.Locations[l].Lines {
			functions.add(line.Function)
		}
	}
	m.locations, m.functions = len(locations.all), len(functions.all)
	table(w, windowsFile, len(m.windows), func(i int) windowRecord {
		win := m.windows[i]
		t := m.types[win.Type]
		return windowRecord{uint32(i), win.Start, win.End, win.Type, t.Name, t.Sample, t.Unit, t.Period, t.PeriodUnit, win.Period, win.Profiles, win.Source, win.Comments}
	})
	table(w, seriesFile, len(m.series), func(i int) seriesRecord {
		s := m.series[i]
		return seriesRecord{s.Type, m.order[s.LabelSet], s.First, s.Rows, s.FirstSum, s.Sums}
	})
	paged(w, stacksFile, len(d.Stacks), dictionary.PageNodes, func(i int) stackRecord {
		if i == 0 { // which stands for the empty one
			return stackRecord{}
		}
		return stackRecord{uint32(i), d.Stacks[i].Parent, locations.places[d.Stacks[i].Location] - 1}
	})
	m.prints = int64(m.locations)*int64(len(dictionary.Fingerprint{})) <= max(freePrints, (w.files[rowsFile].Bytes+w.files[sumsFile].Bytes+w.files[stacksFile].Bytes)/printShare)
	paged(w, locationsFile, m.locations, symbolPage, func(i int) locationRecord {
		l := d.Locations[locations.all[i]]
		r := locationRecord{ID: uint32(i), Address: l.Address, Mapping: l.Mapping, Folded: l.Folded, Lines: make([]lineRecord, len(l.Lines))}
		if m.prints {
			r.Fingerprint = d.Fingerprint(locations.all[i])
		}
		for j, line := range l.Lines {
			r.Lines[j] = lineRecord{functions.places[line.Function] - 1, line.Line, line.Column}
		}
		return r
	})
	paged(w, functionsFile, m.functions, symbolPage, func(i int) functionRecord {
		f := d.Functions[functions.all[i]]
		return functionRecord{uint32(i), text(f.Name), text(f.SystemName), text(f.File), f.StartLine}
	})
	table(w, mappingsFile, len(d.Mappings), func(i int) mappingRecord {
		p := d.Mappings[i]
		return mappingRecord{uint32(i), p.Start, p.Limit, p.Offset, text(p.File), text(p.BuildID), uint32(p.Resolved)}
	})
	table(w, idsFile, len(ids), func(i int) idRecord { return idRecord(ids[i]) })
}
