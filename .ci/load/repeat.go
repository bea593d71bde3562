// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/fleetprof/fleetprof/server/store/block"
)

const (
	// coarsest is the longest that the store folds windows to. Blocks that are moved by a multiple of it
	// stay folded as they are.
	coarsest = 10 * time.Minute
	// otherPIDs is more than any process number that is drawn, see pod.pid: copy i of a short-lived process has
	// i times as much more, which fits 32 bits for mostRepeats.
	otherPIDs   = 1 << 22
	mostRepeats = 1 << 32 / otherPIDs
)

// drawnWindows is how many windows of each host are drawn.
func (d day) drawnWindows() (int, error) {
	if d.repeat < 1 || d.repeat > mostRepeats {
		return 0, fmt.Errorf("repeat hours %d times: want 1 to %d", d.repeat, mostRepeats)
	}
	windows := int(d.hours*float64(time.Hour/windowLength)) / d.repeat
	if span := time.Duration(windows) * windowLength; d.repeat > 1 && span%coarsest != 0 {
		return 0, fmt.Errorf("repeat %v %d times: want a multiple of %v", span, d.repeat, coarsest)
	}
	return windows, nil
}

// repeatHours stores what is in the store again, before that, until the hours are full. It merges
// what is due and prints what both took. The store is another one then.
func (d day) repeatHours(ctx context.Context, f *filled) error {
	if err := f.Close(); err != nil {
		return err
	}
	span := f.to.Sub(f.from)
	copies, err := measured(func() error { return d.writeEarlier(ctx, span) })
	if err != nil {
		return fmt.Errorf("copy hours: %w", err)
	}
	s, err := d.open()
	if err != nil {
		return err
	}
	f.Store = s
	f.from = f.to.Add(-time.Duration(d.repeat) * span)
	f.samples *= int64(d.repeat)
	disk, blocks, err := d.usage()
	if err != nil {
		return err
	}
	fmt.Fprintf(d.out, "%d agents, %v, of which %v are drawn: %d MiB in %d blocks on disk; copies took %v\n", d.agents, f.to.Sub(f.from), span, disk>>20, blocks, copies)
	merging, err := measured(func() error {
		f.Compact(ctx, f.to)
		return ctx.Err()
	})
	if err != nil {
		return err
	}
	if disk, blocks, err = d.usage(); err != nil {
		return err
	}
	fmt.Fprintf(d.out, "the copies merged: %d MiB in %d blocks on disk; merging took %v\n", disk>>20, blocks, merging)
	return nil
}

// writeEarlier writes copies of all blocks of a store that is closed.
func (d day) writeEarlier(ctx context.Context, span time.Duration) error {
	dirs, err := os.ReadDir(d.blocks())
	if err != nil {
		return err
	}
	for _, dir := range dirs { // without the copies
		b, err := block.Open(filepath.Join(d.blocks(), dir.Name()))
		if err != nil {
			return err
		}
		for i := 1; i < d.repeat && err == nil; i++ {
			c := earlier{Block: b, by: time.Duration(i) * span, addPID: uint32(i * otherPIDs)}
			// No log is in it, so none is removed for it.
			err = block.Write(ctx, filepath.Join(d.blocks(), c.name()), block.Plan{Parts: []block.Part{c}, Resolution: b.Resolution, Profiles: b.Profiles})
		}
		if err = errors.Join(err, b.Close()); err != nil {
			return err
		}
	}
	return nil
}

// earlier is a block as if all of it had been earlier, with other short-lived processes.
type earlier struct {
	*block.Block
	by     time.Duration
	addPID uint32
}

// name is one as the store gives blocks, see its FORMAT.md.
func (e earlier) name() string {
	at := func(ns int64) int64 { return (ns - int64(e.by)) / 1e6 }
	return fmt.Sprintf("%013d-%013d-%04d-%s", at(e.Start), at(e.End), int64(e.Resolution/time.Second), rand.Text()[:10])
}

// Index has all windows earlier.
func (e earlier) Index() (*block.Index, error) {
	all, err := e.Block.Index()
	if err != nil {
		return nil, err
	}
	index := *all
	index.Windows = slices.Clone(all.Windows)
	for i := range index.Windows {
		index.Windows[i].Start -= int64(e.by)
		index.Windows[i].End -= int64(e.by)
	}
	return &index, nil
}

// Rows are of other processes where these are short-lived.
func (e earlier) Rows() (block.RowReader, error) {
	labels, err := e.Labels(e.LabelSets)
	if err != nil {
		return nil, err
	}
	r := &otherProcesses{short: make([]bool, e.LabelSets), add: e.addPID}
	for _, l := range shortLived {
		column, err := labels.Column(l.name)
		if err != nil {
			return nil, err
		}
		for run := range column.Runs() {
			if column.Texts[run.Text] == l.value {
				copy(r.short[run.First:run.End], slices.Repeat([]bool{true}, int(run.End-run.First)))
			}
		}
	}
	r.RowReader, err = e.Block.Rows()
	return r, err
}

// otherProcesses reads rows, of which those of short-lived programs are of other processes.
type otherProcesses struct {
	block.RowReader
	short []bool // by label set
	add   uint32
}

// ReadSums would have the processes of before.
func (r *otherProcesses) ReadSums(block.Series, func(block.Rows) error) error {
	return errors.New("a block that was moved has no sums")
}

func (r *otherProcesses) Read(s block.Series, f func(block.Rows) error) error {
	if !r.short[s.LabelSet] {
		return r.RowReader.Read(s, f)
	}
	return r.RowReader.Read(s, func(rows block.Rows) error {
		if rows.Process == nil {
			return errors.New("rows of short-lived programs are of no process")
		}
		rows.Process = slices.Clone(rows.Process)
		for i := range rows.Process {
			rows.Process[i] += r.add
		}
		return f(rows)
	})
}
