// SPDX-License-Identifier: Apache-2.0

// Package block is how rows of profiles lie on disk once they do not change any
// more: a directory of Parquet files, which FORMAT.md of package store describes.
// It is written whole by Write, from other blocks or from the head of the store, and
// then only read, or removed.
package block

import (
	"iter"
	"slices"

	"github.com/fleetprof/fleetprof/server/dictionary"
)

// Type is what the value of a row means.
type Type struct {
	// Name is that of the profile, such as cpu or memory.
	Name string
	// Sample and Unit are what was measured: cpu in nanoseconds, or alloc_space in
	// bytes.
	Sample, Unit string
	// Period and PeriodUnit are what lies between two samples.
	Period, PeriodUnit string
}

// Window is one profile, as far as it is of one type, or several profiles of one
// source in a row that have been folded into one.
type Window struct {
	// Start and End are in nanoseconds since the Unix epoch. They are equal for what
	// holds at one moment, such as a heap.
	Start, End int64
	Type       uint32
	// Period is the longest there was.
	Period int64
	// Profiles is how many are in it.
	Profiles uint32
	// Source is the host that the profile is from, if it says so. Only windows of one
	// source are folded.
	Source   string
	Comments []string
}

// Overlaps reports whether any of the window lies in [from, to), in nanoseconds.
func (w *Window) Overlaps(from, to int64) bool {
	return w.Start < to && (w.End > from || w.Start >= from)
}

// Series is all rows of one type with one label set.
type Series struct {
	// Number is its place among all series of the part.
	Number         int
	Type, LabelSet uint32
	// First is the number of its first row, Rows how many follow each other.
	First, Rows int64
	// FirstSum and Sums are the same for the sums of its rows over all windows, if there are any: they
	// are left out where they would not be much fewer.
	FirstSum, Sums int64
}

// SeriesList are series, of which each begins with the row behind the last one of that before. There may
// be hundreds of thousands: it takes half the memory that a slice of them would.
type SeriesList struct {
	labelSets []uint32
	ends      []int64 // of the rows of each
	sumEnds   []int64 // the same for sums
	types     []typeRun
}

// typeRun is series in a row of one type, up to end.
type typeRun struct {
	typ uint32
	end int
}

// Len is how many there are.
func (l *SeriesList) Len() int { return len(l.labelSets) }

// Grow makes room for so many.
func (l *SeriesList) Grow(n int) {
	l.labelSets, l.ends, l.sumEnds = slices.Grow(l.labelSets, n), slices.Grow(l.ends, n), slices.Grow(l.sumEnds, n)
}

// Add adds a series.
func (l *SeriesList) Add(typ, labelSet uint32, rows, sums int64) {
	l.ends, l.sumEnds = append(l.ends, last(l.ends)+rows), append(l.sumEnds, last(l.sumEnds)+sums)
	l.labelSets = append(l.labelSets, labelSet)
	if n := len(l.types); n > 0 && l.types[n-1].typ == typ {
		l.types[n-1].end++
		return
	}
	l.types = append(l.types, typeRun{typ, len(l.labelSets)})
}

// last is how many rows or sums all series have.
func last(ends []int64) int64 {
	if n := len(ends); n > 0 {
		return ends[n-1]
	}
	return 0
}

// All gives the series in their order.
func (l *SeriesList) All() iter.Seq[Series] {
	return func(yield func(Series) bool) {
		number, first, firstSum := 0, int64(0), int64(0)
		for _, run := range l.types {
			for ; number < run.end; number++ {
				end, sumEnd := l.ends[number], l.sumEnds[number]
				if !yield(Series{number, run.typ, l.labelSets[number], first, end - first, firstSum, sumEnd - firstSum}) {
					return
				}
				first, firstSum = end, sumEnd
			}
		}
	}
}

func (l *SeriesList) size() int64 {
	return 20*int64(len(l.labelSets)) + 16*int64(len(l.types))
}

// Index tells what is in a part, without the rows and what their label sets and stacks
// say. It does not change.
type Index struct {
	Types   []Type
	Windows []Window
	Series  SeriesList
	// LabelSets is how many there are.
	LabelSets int
	// Processes says that rows have their processes, and label sets only those that are no such number.
	Processes bool
}

// Size is about how many bytes of memory x holds.
func (x *Index) Size() int64 {
	return 96*int64(len(x.Windows)) + x.Series.size()
}

// Rows are some rows of one series, with one entry for each in all columns. Stack is
// a number in the Symbols of the part, Window one in its Index; sums have none.
type Rows struct {
	Stack, Window []uint32
	Value, Count  []int64
	// Process is the process that a row is of, which its label set then says nothing of; 0 if the label set
	// says it or nothing does, and nil if that holds for all.
	Process []uint32
}

// Processes gives rows by their process. Those of one follow each other.
func (r Rows) Processes() iter.Seq2[uint32, Rows] {
	return func(yield func(uint32, Rows) bool) {
		if r.Process == nil {
			yield(0, r)
			return
		}
		for first := 0; first < len(r.Process); {
			process, end := r.Process[first], first+1
			for end < len(r.Process) && r.Process[end] == process {
				end++
			}
			if !yield(process, r.slice(first, end)) {
				return
			}
			first = end
		}
	}
}

func (r Rows) slice(from, to int) Rows {
	part := Rows{Stack: r.Stack[from:to], Value: r.Value[from:to], Count: r.Count[from:to], Process: r.Process[from:to]}
	if r.Window != nil {
		part.Window = r.Window[from:to]
	}
	return part
}

// Part is a part of what is stored: a block, or the head at some moment.
type Part interface {
	Index() (*Index, error)
	// Labels opens the label sets, for one reader. They are so many, which is that of Index.
	Labels(sets int) (Labels, error)
	// Symbols opens all that stacks refer to, for one reader.
	Symbols() (dictionary.Symbols, error)
	// Stacks opens the stacks, for one reader. They refer to so many locations, which are
	// those of Symbols.
	Stacks(locations int) (StackReader, error)
	// Rows opens the rows, for one reader.
	Rows() (RowReader, error)
}

// StackReader reads stacks. It is not safe for concurrent use.
type StackReader interface {
	dictionary.Nodes
	Close() error
}

// RowReader reads rows. It is not safe for concurrent use.
type RowReader interface {
	// Read calls f with the rows of a series, some at a time. They are f's only until
	// it returns. In a series of a block they are sorted by process, then by stack, in one run or, if there are
	// millions, in several; without a process in blocks of earlier versions.
	Read(s Series, f func(Rows) error) error
	// ReadSums is the same for the sums of a series, if it has some.
	ReadSums(s Series, f func(Rows) error) error
	Close() error
}
