// SPDX-License-Identifier: Apache-2.0

package symbolize

import (
	"cmp"
	"debug/elf"
	"errors"
	"fmt"
	"slices"

	"github.com/fleetprof/fleetprof/symbolize/dwarfsym"
	"github.com/fleetprof/fleetprof/symbolize/index"
)

// errIndexed marks an error of the file that is indexed.
var errIndexed = errors.New("read what is indexed")

// building is an index in the making: of what debug information tells, and of the names of all other code.
type building struct {
	table     *table
	demangler demangler
	pace      pace
	to        *index.Writer

	// name is the linker's for addresses from one up to another.
	name       string
	from, past uint64
	done       []extent // of which debug information tells, as far as it follows on each other
}

// extent is addresses from low up to high.
type extent struct{ low, high uint64 }

// write writes the index of a table, whose debug information is given.
func write(to *index.Writer, t *table, debug *dwarfsym.Table, p pace, names *readableNames) error {
	b := building{table: t, demangler: demangler{known: names, unbounded: true}, pace: p, to: to}
	if err := debug.Walk(b.pace.turn, b.add); err != nil {
		return err
	}
	if err := b.rest(); err != nil {
		return err
	}
	return to.Close()
}

// add adds a range of debug information.
func (b *building) add(low, high uint64, told []dwarfsym.Frame, cause error) error {
	if n := len(b.done); n > 0 && b.done[n-1].high == low {
		b.done[n-1].high = high
	} else {
		b.done = append(b.done, extent{low, high})
	}
	if cause != nil { // lookups find out whether it passes
		return errors.Join(b.pace.step(), b.to.Skip(low, high))
	}
	return b.put(low, high, told)
}

// put adds a range of which debug information tells one thing or nothing, cut where the linker's name changes.
func (b *building) put(low, high uint64, told []dwarfsym.Frame) error {
	for at := low; at < high; {
		if err := b.pace.step(); err != nil {
			return err
		}
		if at >= b.past || at < b.from {
			var err error
			if b.name, b.past, err = b.table.nameUntil(at); err != nil {
				return fmt.Errorf("%w: %w", errIndexed, err)
			}
			b.from = at
		}
		past := min(high, b.past)
		frames, _ := b.demangler.whole(told, b.name)
		if err := b.to.Add(at, past, frames); err != nil {
			return err
		}
		at = past
	}
	return nil
}

// rest adds all code of which debug information does not tell.
func (b *building) rest() error {
	slices.SortFunc(b.done, func(a, b extent) int { return cmp.Compare(a.low, b.low) })
	for _, s := range b.table.file.Segments {
		if s.Flags&elf.PF_X == 0 {
			continue
		}
		at, end := s.Address, s.Address+s.FileSize
		for _, e := range b.done {
			if e.high <= at || e.low >= end {
				continue
			}
			if err := b.put(at, max(at, e.low), nil); err != nil {
				return err
			}
			at = e.high
		}
		if err := b.put(at, max(at, end), nil); err != nil {
			return err
		}
	}
	return nil
}
