// SPDX-License-Identifier: Apache-2.0

package block

import (
	"errors"
	"slices"
)

// runRows bounds the rows that a RowReader gives at a time.
const runRows = 8192

// The columns of rowRecord that are read: the series tells the labels.
const (
	columnStack = iota + 1
	columnWindow
	columnValue
	columnCount
	columnProcess // since version 4
)

// The same of sumRecord.
const (
	sumStack = iota + 1
	sumValue
	sumCount
	sumProcess
)

// Rows opens the rows.
func (b *Block) Rows() (RowReader, error) {
	columns := columnProcess + 1
	if b.Version <= version3 {
		columns = columnProcess
	}
	o, err := b.pagesOf(&b.rows, rowsFile, columns, b.Meta.Rows)
	if err != nil {
		return nil, err
	}
	r := &rowReader{block: b, rows: rowColumns{
		block: b, open: o, stack: newColumn(o, columnStack, copy32), window: newColumn(o, columnWindow, copy32),
		value: newColumn(o, columnValue, copy64), count: newColumn(o, columnCount, copy64),
	}}
	if b.Processes {
		r.rows.process = newColumn(o, columnProcess, copy32)
	}
	return r, nil
}

type rowReader struct {
	block *Block
	rows  rowColumns
	sums  *rowColumns // once some have been asked for
}

func (r *rowReader) Read(s Series, f func(Rows) error) error { return r.rows.each(s.First, s.Rows, f) }

func (r *rowReader) ReadSums(s Series, f func(Rows) error) error {
	if r.sums == nil {
		o, err := r.block.pagesOf(&r.block.sums, sumsFile, sumProcess+1, r.block.Sums)
		if err != nil {
			return err
		}
		r.sums = &rowColumns{
			block: r.block, open: o, stack: newColumn(o, sumStack, copy32),
			value: newColumn(o, sumValue, copy64), count: newColumn(o, sumCount, copy64),
		}
		if r.block.Processes {
			r.sums.process = newColumn(o, sumProcess, copy32)
		}
	}
	return r.sums.each(s.FirstSum, s.Sums, f)
}

func (r *rowReader) Close() error {
	err := r.rows.close()
	if r.sums != nil {
		err = errors.Join(err, r.sums.close())
	}
	return err
}

// rowColumns are the columns of rows or sums.
type rowColumns struct {
	block           *Block
	open            *pagedFile
	stack           *column[uint32]
	window, process *column[uint32] // nil if there is none
	value, count    *column[int64]
}

// each calls f with n rows from first on, some at a time.
func (c *rowColumns) each(first, n int64, f func(Rows) error) error {
	for end := first + n; first < end; {
		n := min(runRows, end-first)
		run, err := c.run(first, int(n))
		if err != nil {
			return err
		}
		if err := f(run); err != nil {
			return err
		}
		first += n
	}
	return nil
}

// run reads n rows.
func (c *rowColumns) run(at int64, n int) (run Rows, err error) {
	defer guard(c.open.path, &err)
	var errs [5]error
	run.Stack, errs[0] = c.stack.read(at, n)
	run.Value, errs[1] = c.value.read(at, n)
	run.Count, errs[2] = c.count.read(at, n)
	if c.window != nil {
		run.Window, errs[3] = c.window.read(at, n)
	}
	if c.process != nil {
		run.Process, errs[4] = c.process.read(at, n)
	}
	if err := errors.Join(errs[:]...); err != nil {
		return run, &DamagedError{c.open.path, err}
	}
	if int64(slices.Max(run.Stack)) >= int64(c.block.Meta.Stacks) || c.window != nil && int64(slices.Max(run.Window)) >= int64(c.block.Windows) {
		return run, &DamagedError{c.open.path, errReference}
	}
	return run, nil
}

func (c *rowColumns) close() error {
	err := errors.Join(c.stack.close(), c.value.close(), c.count.close())
	for _, other := range []*column[uint32]{c.window, c.process} {
		if other != nil {
			err = errors.Join(err, other.close())
		}
	}
	return err
}
