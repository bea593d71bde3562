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
	r := &rowReader{block: b, open: o}
	if b.Processes && b.Version > version3 {
		r.process = newColumn(o, columnProcess, copy32)
	}
	r.stack, r.window = newColumn(o, columnStack, copy32), newColumn(o, columnWindow, copy32)
	r.value, r.count = newColumn(o, columnValue, copy64), newColumn(o, columnCount, copy64)
	return r, nil
}

type rowReader struct {
	block         *Block
	open          *pagedFile
	stack, window *column[uint32]
	value, count  *column[int64]
	process       *column[uint32] // nil if no row has one
}

func (r *rowReader) Read(s Series, f func(Rows) error) error {
	for at := s.First; at < s.First+s.Rows; {
		n := min(runRows, s.First+s.Rows-at)
		run, err := r.run(at, int(n))
		if err != nil {
			return err
		}
		if err := f(run); err != nil {
			return err
		}
		at += n
	}
	return nil
}

// run reads n rows.
func (r *rowReader) run(at int64, n int) (run Rows, err error) {
	defer guard(r.open.path, &err)
	var errs [5]error
	run.Stack, errs[0] = r.stack.read(at, n)
	run.Window, errs[1] = r.window.read(at, n)
	run.Value, errs[2] = r.value.read(at, n)
	run.Count, errs[3] = r.count.read(at, n)
	if r.process != nil {
		run.Process, errs[4] = r.process.read(at, n)
	}
	if err := errors.Join(errs[:]...); err != nil {
		return run, &DamagedError{r.open.path, err}
	}
	if int64(slices.Max(run.Stack)) >= int64(r.block.Meta.Stacks) || int64(slices.Max(run.Window)) >= int64(r.block.Windows) {
		return run, &DamagedError{r.open.path, errReference}
	}
	return run, nil
}

func (r *rowReader) Close() error {
	err := errors.Join(r.stack.close(), r.window.close(), r.value.close(), r.count.close())
	if r.process != nil {
		err = errors.Join(err, r.process.close())
	}
	return err
}
