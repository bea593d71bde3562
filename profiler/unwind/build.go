// SPDX-License-Identifier: Apache-2.0

package unwind

import (
	"cmp"
	"debug/elf"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/fleetprof/fleetprof/internal/objfile"
)

// ErrUnsupported reports a file of another machine than amd64 and arm64.
var ErrUnsupported = errors.New("unwind tables for this machine are not supported")

const (
	// maxText bounds the code of one file, in bytes.
	maxText = 1 << 30
	// maxRegions bounds the executable segments that are covered; linkers write
	// one, rarely two.
	maxRegions = 16
	// maxSpans bounds the functions of one file. The largest browsers have some
	// 700,000.
	maxSpans = 8 << 20
)

// A source describes functions, and gives the rows of one at a time.
type source interface {
	// spans calls add for every function, in no order. ref is the source's own
	// name for it, less than 1<<30.
	spans(add func(start, size, ref uint64) error) (damaged int, err error)
	// rows emits the rows of a function in order of addresses.
	rows(ref uint64, emit func(addr uint64, r Rule) error) error
}

// The ranks of sources. Of two spans that overlap, the one of the lower rank is
// kept.
const (
	rankGo = iota
	rankFrames
	rankDebug
	rankCode
	ranks
)

// span is one function: 16 bytes, not more than any source takes to describe it.
type span struct {
	start uint64
	size  uint32
	// source holds the rank in the high two bits and ref below.
	source uint32
}

func (s span) rank() uint32 { return s.source >> 30 }
func (s span) ref() uint64  { return uint64(s.source & (1<<30 - 1)) }
func (s span) end() uint64  { return s.start + uint64(s.size) }

type builder struct {
	table   *Table
	sources [ranks]source
	spans   []span
	pages   *pages
}

// Build reads all unwind information of a file. A file without any gives a table
// without regions. An error says that the file cannot be read, is of another
// machine, or is larger than a table can describe; information that is damaged
// is left out and counted in the table's Stats.
//
// Beside the table it needs 16 bytes per function and a few MiB.
func Build(f *objfile.File) (*Table, error) { return buildTable(f, true) }

// buildTable is Build, with rows from instructions or without.
func buildTable(f *objfile.File, fromCode bool) (*Table, error) {
	a, ok := archOf(f.Machine)
	if !ok {
		return nil, ErrUnsupported
	}
	b := &builder{table: &Table{Machine: f.Machine}}
	if err := b.open(f, a); err != nil {
		return nil, err
	}
	if err := b.collect(f, codeOf(f), fromCode); err != nil {
		return nil, fmt.Errorf("list functions: %w", err)
	}
	b.pages = newPages(b.table)
	if err := b.emit(); err != nil {
		return nil, fmt.Errorf("build unwind rows: %w", err)
	}
	return b.table, b.pages.finish()
}

// open finds the sources the file has. One that is damaged is as if it were not
// there.
func (b *builder) open(f *objfile.File, a *arch) error {
	open := [...]func(*objfile.File, *arch) (source, error){openGo, openFrames, openDebugFrames}
	for rank, open := range open {
		s, err := open(f, a)
		if isDamage(err) {
			b.table.Stats.Damaged++
		} else if err != nil {
			return fmt.Errorf("open unwind information: %w", err)
		} else {
			b.sources[rank] = s
		}
	}
	return nil
}

// extent is a range of addresses as linked.
type extent struct{ start, end uint64 }

// codeOf returns the file's executable segments, sorted and disjoint, without
// those whose bytes the file does not have.
func codeOf(f *objfile.File) []extent {
	var code []extent
	for _, s := range f.Segments {
		if s.Flags&elf.PF_X == 0 || s.FileSize == 0 || s.Address+s.FileSize > math.MaxInt64 {
			continue
		}
		var last [1]byte
		if f.ReadAddress(last[:], s.Address+s.FileSize-1) == nil {
			code = append(code, extent{s.Address, s.Address + s.FileSize})
		}
	}
	slices.SortFunc(code, func(a, b extent) int { return cmp.Compare(a.start, b.start) })
	total, kept := uint64(0), code[:0]
	for _, c := range code {
		if n := len(kept); n > 0 {
			c.start = max(c.start, pageUp(kept[n-1].end))
		}
		if c.start >= c.end || len(kept) == maxRegions {
			continue
		}
		if total += c.end - c.start; total > maxText {
			break
		}
		kept = append(kept, c)
	}
	return kept
}

func pageUp(addr uint64) uint64 { return (addr + pageSize - 1) &^ (pageSize - 1) }

// collect lists and sorts the spans that lie in code, and lays out the regions. What
// instructions tell comes last: it is for code that nothing else describes.
func (b *builder) collect(f *objfile.File, code []extent, fromCode bool) error {
	for rank := range rankCode {
		if err := b.list(rank, code); err != nil {
			return err
		}
	}
	b.sort()
	b.sources[rankCode] = openEntry(f)
	if fromCode {
		b.openCode(f, code)
	}
	if err := b.list(rankCode, code); err != nil {
		return err
	}
	b.sort()
	for _, c := range code {
		b.layOut(c)
	}
	return nil
}

// openCode opens the source for what the others leave, if that is enough.
func (b *builder) openCode(f *objfile.File, code []extent) {
	if importsFunctions(f) {
		return
	}
	c, err := openCode(f, code, b.spans, maxBare)
	if err != nil {
		b.table.Stats.Damaged++
	}
	if c != nil {
		b.sources[rankCode] = c
	}
}

// list adds the spans of a source.
func (b *builder) list(rank int, code []extent) error {
	s := b.sources[rank]
	if s == nil {
		return nil
	}
	inside := func(addr uint64) (extent, bool) {
		for _, c := range code {
			if addr >= c.start && addr < c.end {
				return c, true
			}
		}
		return extent{}, false
	}
	damaged, err := s.spans(func(start, size, ref uint64) error {
		c, ok := inside(start)
		if !ok {
			return nil // of a function that the linker discarded
		}
		if len(b.spans) == maxSpans {
			return ErrTooLarge
		}
		size = min(size, c.end-start)
		b.spans = append(b.spans, span{start, uint32(size), uint32(rank)<<30 | uint32(ref)})
		return nil
	})
	b.table.Stats.Damaged += damaged
	return err
}

// sort sorts the spans and drops those that a source of lower rank describes too.
func (b *builder) sort() {
	slices.SortFunc(b.spans, func(x, y span) int {
		return cmp.Or(cmp.Compare(x.start, y.start), cmp.Compare(x.source, y.source))
	})
	b.spans = dropCovered(b.spans)
}

// dropCovered drops spans that start in one of a lower rank, and all but the
// first of those that start together.
func dropCovered(spans []span) []span {
	var covered [ranks]uint64 // up to where, by rank
	kept := spans[:0]
	for _, s := range spans {
		if n := len(kept); n > 0 && kept[n-1].start == s.start {
			continue
		}
		known := false
		for _, end := range covered[:s.rank()] {
			known = known || s.start < end
		}
		if !known {
			kept = append(kept, s)
			covered[s.rank()] = max(covered[s.rank()], s.end())
		}
	}
	return kept
}

// layOut adds a region from the first to the last span in c.
func (b *builder) layOut(c extent) {
	var used extent
	from, _ := slices.BinarySearchFunc(b.spans, c.start, func(s span, addr uint64) int { return cmp.Compare(s.start, addr) })
	for _, s := range b.spans[from:] {
		if s.start >= c.end {
			break
		}
		if used.end == 0 {
			used.start = s.start &^ (pageSize - 1)
		}
		used.end = max(used.end, pageUp(s.end()))
	}
	if used.end > 0 {
		index := make([]uint32, (used.end-used.start)>>PageBits)
		b.table.Regions = append(b.table.Regions, Region{used.start, used.end, index})
	}
}

// emit adds the rows of all spans, and rows of kind None between them. A span
// ends where the next one starts, if not before.
func (b *builder) emit() error {
	for i, s := range b.spans {
		end := s.end()
		if i+1 < len(b.spans) {
			end = min(end, b.spans[i+1].start)
		}
		if err := b.emitSpan(s, end); err != nil {
			return err
		}
		if err := b.pages.add(end, Rule{}); err != nil {
			return err
		}
		b.count(s.rank())
	}
	return nil
}

func (b *builder) emitSpan(s span, end uint64) error {
	at := s.start
	err := b.sources[s.rank()].rows(s.ref(), func(addr uint64, r Rule) error {
		if addr = max(addr, at); addr >= end {
			return nil
		}
		if at = addr; r.Kind == Unsupported {
			b.table.Stats.Unsupported++
		}
		return b.pages.add(addr, r)
	})
	if isDamage(err) {
		b.table.Stats.Damaged++
		return b.pages.add(at, Rule{})
	}
	return err
}

func (b *builder) count(rank uint32) {
	s := &b.table.Stats
	switch rank {
	case rankGo:
		s.GoSpans++
	case rankFrames:
		s.FrameSpans++
	case rankDebug:
		s.DebugSpans++
	}
}
