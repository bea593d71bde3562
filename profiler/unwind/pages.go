// SPDX-License-Identifier: Apache-2.0

package unwind

import (
	"cmp"
	"errors"
	"slices"
)

// ErrTooLarge reports a file with more functions or rows than a table can have,
// or than its code can need.
var ErrTooLarge = errors.New("more unwind information than a table can hold")

// pages encodes rows, added in order of addresses, into a Table.
type pages struct {
	table *Table
	// region is the region under way and next the number of its next page.
	region, next int
	// rows are those of the page under way that differ from inForce, the rule at
	// its start.
	rows    []row
	inForce uint32
	// last is the rule of the newest row.
	last Rule
	// lastID is its number.
	lastID uint32

	ids map[Rule]uint32
	// uses counts rows by rule.
	uses []int
	// limit is how many rows the table may have.
	limit int
	// alone is the row plus 1 that pages with one row of a rule share, by rule.
	alone []uint32
}

// row is the start of a rule in a page.
type row struct{ pc, id uint32 }

func newPages(t *Table) *pages {
	text := uint64(0)
	for _, r := range t.Regions {
		text += r.Limit - r.Start
	}
	// 4 bytes each, and so less than the code but for what is tiny. Compilers and
	// people write one row for 25 bytes of code and more.
	limit := min(MaxRows, int(text/4)+1<<10)
	p := &pages{table: t, ids: make(map[Rule]uint32), limit: limit}
	p.intern(Rule{})
	return p
}

// intern numbers a rule.
func (p *pages) intern(r Rule) uint32 {
	if id, ok := p.ids[r]; ok {
		return id
	}
	if len(p.table.Rules) >= MaxRules-1 && r.Kind != Unsupported {
		p.table.Stats.ExcessRules++
		return p.intern(Rule{Kind: Unsupported})
	}
	id := uint32(len(p.table.Rules))
	p.ids[r] = id
	p.table.Rules = append(p.table.Rules, r)
	p.uses = append(p.uses, 0)
	p.alone = append(p.alone, 0)
	return id
}

// add says that r holds from addr on. Addresses never decrease; of several
// rules for one address the last holds.
func (p *pages) add(addr uint64, r Rule) error {
	if r == p.last {
		return nil
	}
	if err := p.advance(addr); err != nil {
		return err
	}
	p.last, p.lastID = r, p.intern(r)
	if p.region == len(p.table.Regions) || addr < p.table.Regions[p.region].Start {
		p.inForce = p.lastID // outside: it counts where the next region starts
		return nil
	}
	pc := uint32(addr % pageSize)
	if n := len(p.rows); n > 0 && p.rows[n-1].pc == pc {
		p.rows = p.rows[:n-1]
	}
	p.rows = append(p.rows, row{pc, p.lastID})
	return nil
}

// advance writes all pages that end at or before addr.
func (p *pages) advance(addr uint64) error {
	for ; p.region < len(p.table.Regions); p.region, p.next = p.region+1, 0 {
		r := p.table.Regions[p.region]
		if addr < r.Start {
			return nil
		}
		end := min(addr, r.Limit)
		for ; r.Start+uint64(p.next+1)<<PageBits <= end; p.next++ {
			if err := p.flush(); err != nil {
				return err
			}
		}
		if end < r.Limit {
			return nil
		}
	}
	return nil
}

// flush writes the page under way, in quarters if it has too many rows.
func (p *pages) flush() error {
	rows := p.rows
	if len(rows) == 0 || rows[0].pc != 0 {
		rows = slices.Insert(rows, 0, row{0, p.inForce})
	}
	rows = slices.CompactFunc(rows, func(a, b row) bool { return a.id == b.id })
	p.rows, p.inForce = rows[:0], p.lastID
	index := &p.table.Regions[p.region].Index
	var err error
	if len(rows) <= MaxPageRows {
		(*index)[p.next], err = p.write(rows)
		return err
	}
	p.table.Stats.Dense++
	(*index)[p.next] = uint32(len(*index)) // and no rows
	for quarter := uint32(0); quarter < 4; quarter++ {
		entry, err := p.write(part(rows, quarter*quarterSize))
		if err != nil {
			return err
		}
		*index = append(*index, entry)
	}
	return nil
}

// part returns the rows of the quarter page that starts at pc. The first one is
// in force there and may start before.
func part(rows []row, pc uint32) []row {
	first, end := 0, 0
	for i, r := range rows {
		if r.pc <= pc {
			first = i
		}
		if r.pc < pc+quarterSize {
			end = i + 1
		}
	}
	return rows[first:end]
}

// write writes the rows of a page, or of a quarter of one, and returns its index
// entry.
func (p *pages) write(rows []row) (entry uint32, err error) {
	if len(rows) > MaxPageRows {
		p.table.Stats.Cut++
		rows = append(slices.Clone(rows[:MaxPageRows-1]), row{rows[MaxPageRows-1].pc, p.intern(Rule{Kind: Unsupported})})
	}
	first := uint32(len(p.table.Rows))
	if len(rows) == 1 {
		if at := p.alone[rows[0].id]; at != 0 {
			return at - 1 | 1<<rowBits, nil
		}
		p.alone[rows[0].id] = first + 1
	}
	if int(first)+len(rows) > p.limit {
		return 0, ErrTooLarge
	}
	for _, r := range rows {
		p.table.Rows = append(p.table.Rows, r.id<<PageBits|r.pc)
		p.uses[r.id]++
	}
	return first | uint32(len(rows))<<rowBits, nil
}

// finish writes what is left and renumbers the rules by use, so that those a
// walk needs most lie close together. None stays the first, and rules without a
// row go.
func (p *pages) finish() error {
	if err := p.advance(^uint64(0)); err != nil {
		return err
	}
	t := p.table
	order := make([]uint32, len(t.Rules))
	for i := range order {
		order[i] = uint32(i)
	}
	slices.SortStableFunc(order[1:], func(a, b uint32) int { return cmp.Compare(p.uses[b], p.uses[a]) })
	used := len(order)
	for used > 1 && p.uses[order[used-1]] == 0 {
		used--
	}
	order = order[:used]
	renamed := make([]uint32, len(t.Rules))
	rules := make([]Rule, len(order))
	for id, old := range order {
		renamed[old], rules[id] = uint32(id), t.Rules[old]
	}
	for i, r := range t.Rows {
		t.Rows[i] = renamed[r>>PageBits]<<PageBits | r%pageSize
	}
	t.Rules, t.Rows = rules, slices.Clip(t.Rows)
	return nil
}
