// SPDX-License-Identifier: Apache-2.0

package unwind

import (
	"debug/elf"
)

const (
	// PageBits is the size of a text page: 256 bytes of code.
	PageBits = 8
	pageSize = 1 << PageBits
	// A page with more rows than an index entry can count is split in quarters.
	quarterBits = PageBits - 2
	quarterSize = 1 << quarterBits

	// MaxPageRows is how many rows a page, or a quarter of one, can have. One that
	// would have more ends with a row of kind Unsupported.
	MaxPageRows = 1<<6 - 1
	// MaxRows is how many rows a table can have: 256 MiB.
	MaxRows = 1 << rowBits
	rowBits = 26
	// MaxRules is how many rules a table can have, so that their list is 1 MiB.
	// Rules beyond are replaced by Unsupported.
	MaxRules = 1 << 16
)

// Table holds the rows of one ELF file, encoded as FORMAT.md says and ready to
// be copied into kernel memory. It is immutable and safe for concurrent use.
type Table struct {
	Machine elf.Machine
	// Regions are disjoint and sorted by address.
	Regions []Region
	// Rows is shared by the pages of all regions.
	Rows []uint32
	// Rules is ordered by use, most rows first, but None is always at 0.
	Rules []Rule
	Stats Stats
}

// Region is a range of executable addresses as linked. Its ends are page
// boundaries.
type Region struct {
	Start, Limit uint64
	// Index has one entry per page: the first row in the low 26 bits, the number
	// of rows in the high 6. With no rows the low bits are instead the place, further
	// up in Index, of four entries for the quarters of the page.
	Index []uint32
}

// Stats tells what went into a table, and what did not.
type Stats struct {
	// Spans is the number of functions by source.
	GoSpans, FrameSpans, DebugSpans int
	// Damaged counts entries of a source that contradict themselves or the file,
	// and sources given up half-way because of one. Their code is of kind None.
	Damaged int
	// Unsupported counts rows that no Rule expresses.
	Unsupported int
	// Dense counts pages split in quarters, Cut quarters cut at MaxPageRows.
	Dense, Cut int
	// ExcessRules counts rows that had to do without their rule, see MaxRules.
	ExcessRules int
}

// Bytes is the memory the table takes, in kernel memory as in the heap.
func (t *Table) Bytes() int {
	n := 4*len(t.Rows) + RuleSize*len(t.Rules)
	for _, r := range t.Regions {
		n += 4 * len(r.Index)
	}
	return n
}

// Lookup returns the rule in force at an address as linked; None outside of all
// regions.
func (t *Table) Lookup(addr uint64) Rule {
	for i := range t.Regions {
		r := &t.Regions[i]
		if addr < r.Start || addr >= r.Limit {
			continue
		}
		entry := r.Index[(addr-r.Start)>>PageBits]
		if entry>>rowBits == 0 {
			entry = r.Index[uint64(entry)+addr%pageSize>>quarterBits]
		}
		return t.Rules[search(t.rows(entry), uint32(addr%pageSize))]
	}
	return Rule{}
}

// search returns the rule of the last row that starts at or before pc. The first
// row is in force from the start of the page or quarter, whatever it says.
func search(rows []uint32, pc uint32) uint32 {
	found := rows[0]
	for _, row := range rows[1:] {
		if row%pageSize > pc {
			break
		}
		found = row
	}
	return found >> PageBits
}

// rows returns the rows of an index entry.
func (t *Table) rows(entry uint32) []uint32 {
	first := entry % MaxRows
	return t.Rows[first : first+entry>>rowBits]
}
