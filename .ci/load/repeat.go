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
	"strconv"
	"time"

	"github.com/fleetprof/fleetprof/server/columns"
	"github.com/fleetprof/fleetprof/server/dictionary"
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
			c := earlier{Block: b, by: time.Duration(i) * span, addPID: i * otherPIDs}
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
	addPID int
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

// Labels have the numbers of other processes where these are short-lived.
func (e earlier) Labels(sets int) (block.Labels, error) {
	all, err := e.Block.Labels(sets)
	if err != nil {
		return nil, err
	}
	d, err := all.Sets(nil, nil)
	if err != nil {
		return nil, err
	}
	if d, err = otherProcesses(d, e.addPID); err != nil {
		return nil, err
	}
	return block.LabelsOf(d), nil
}

// otherProcesses gives the same label sets, of which those of short-lived programs have other processes.
func otherProcesses(from *dictionary.Dictionary, addPID int) (*dictionary.Dictionary, error) {
	to := &dictionary.Dictionary{Strings: slices.Clip(from.Strings)}
	labels, others := from.LabelSets.Labels(), map[uint32]uint32{} // by a label of a process, that of the other one
	for _, l := range labels {
		to.LabelSets.Label(l)
	}
	text := func(n uint32) pair { return pair{from.Strings[labels[n].Key], from.Strings[labels[n].Text]} }
	var set []uint32
	for i := range from.LabelSets.Len() {
		set = append(set[:0], from.LabelSets.Numbers(uint32(i))...)
		if slices.ContainsFunc(set, func(n uint32) bool { return slices.Contains(shortLived, text(n)) }) {
			at := slices.IndexFunc(set, func(n uint32) bool { return text(n).name == processLabel })
			if at < 0 {
				return nil, fmt.Errorf("look for %s: label set %d has none", processLabel, i)
			}
			other, ok := others[set[at]]
			if !ok {
				pid, err := strconv.Atoi(text(set[at]).value)
				if err != nil {
					return nil, fmt.Errorf("read %s: %w", processLabel, err)
				}
				other = to.LabelSets.Label(columns.Label{Key: labels[set[at]].Key, Text: uint32(len(to.Strings))})
				to.Strings = append(to.Strings, strconv.Itoa(pid+addPID))
				others[set[at]] = other
			}
			set[at] = other
		}
		to.LabelSets.AddNumbered(set...)
	}
	return to, nil
}
