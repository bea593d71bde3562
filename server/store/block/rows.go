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
)

// Rows opens the rows.
func (b *Block) Rows() (RowReader, error) {
	o, err := b.pagesOf(&b.rows, rowsFile, columnCount+1, b.Meta.Rows)
	if err != nil {
		return nil, err
	}
	r := &rowReader{block: b, open: o}
	r.stack, r.window = newColumn(o, columnStack, copy32), newColumn(o, columnWindow, copy32)
	r.value, r.count = newColumn(o, columnValue, copy64), newColumn(o, columnCount, copy64)
	return r, nil
}

type rowReader struct {
	block         *Block
	open          *pagedFile
	stack, window *column[uint32]
	value, count  *column[int64]
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
	var errs [4]error
	run.Stack, errs[0] = r.stack.read(at, n)
	run.Window, errs[1] = r.window.read(at, n)
	run.Value, errs[2] = r.value.read(at, n)
	run.Count, errs[3] = r.count.read(at, n)
	if err := errors.Join(errs[:]...); err != nil {
		return run, &DamagedError{r.open.path, err}
	}
	if int64(slices.Max(run.Stack)) >= int64(r.block.Meta.Stacks) || int64(slices.Max(run.Window)) >= int64(r.block.Windows) {
		return run, &DamagedError{r.open.path, errReference}
	}
	return run, nil
}

func (r *rowReader) Close() error {
	return errors.Join(r.stack.close(), r.window.close(), r.value.close(), r.count.close())
}
