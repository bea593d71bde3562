// SPDX-License-Identifier: Apache-2.0

package dwarfsym

// rangesOf calls f for each range of addresses of an entry, as long as f wants more.
func (t *Table) rangesOf(u *unit, e *entry, f func(low, high uint64) bool) error {
	yield := func(low, high uint64) bool {
		// Linkers leave ranges of functions that they have dropped at addresses without code.
		return low >= high || !t.file.HasCode(low) || f(low, high)
	}
	switch v := e.values[ranges]; v.class {
	case classNumber:
		switch {
		case u.version >= 5 && u.skeleton != nil:
			return t.rangeList(u, u.rangesBase-u.rangesHeader()+v.n, yield)
		case u.version >= 5:
			return t.rangeList(u, v.n, yield)
		case u.skeleton != nil: // its list is with those of all other units
			return t.rangesBefore5(u.skeleton, u.skeleton.rangesBase+v.n, yield)
		}
		return t.rangesBefore5(u, v.n, yield)
	case classRnglistx:
		off, err := u.offsetIn(u.in.rangeLists, u.rangesBase, v.n)
		if err != nil {
			return err
		}
		return t.rangeList(u, u.rangesBase+off, yield)
	}
	start, ok := t.address(u, e.values[low])
	if !ok {
		return nil
	}
	switch v := e.values[high]; v.class {
	case classNumber: // since DWARF 4
		yield(start, start+v.n)
	case classAddress, classAddrx:
		if end, ok := t.address(u, v); ok {
			yield(start, end)
		}
	}
	return nil
}

// pair is a range that is not known to count yet.
type pair struct{ low, high uint64 }

// maxRanges bounds those of one entry, and maxRangesRead those that are read for one unit, or for
// the first entries of all.
const (
	maxRanges     = 1 << 20
	maxRangesRead = 1 << 23
)

// another counts a range that is read.
func (t *Table) another(c *cursor, all []pair) bool {
	t.rangesRead++
	c.bad = c.bad || len(all) == maxRanges || t.rangesRead > maxRangesRead
	return !c.bad
}

// rangesBefore5 reads a list of .debug_ranges, DWARF 4 section 2.17.3.
func (t *Table) rangesBefore5(u *unit, off uint64, f func(low, high uint64) bool) error {
	var all []pair
	err := u.in.ranges.parse(off, func(c *cursor) {
		all = all[:0]
		for base := u.low; t.another(c, all); {
			low, high := c.number(8), c.number(8)
			switch {
			case low == 0 && high == 0:
				return
			case low == ^uint64(0):
				base = high
			default:
				all = append(all, pair{base + low, base + high})
			}
		}
	})
	return each(all, err, f)
}

// Kinds of entries in a range list, DWARF 5 section 7.25.
const (
	rangeEnd = iota
	rangeBaseAddressx
	rangeStartxEndx
	rangeStartxLength
	rangeOffsetPair
	rangeBaseAddress
	rangeStartEnd
	rangeStartLength
)

// rangeList reads a list of .debug_rnglists, DWARF 5 section 2.17.3.
func (t *Table) rangeList(u *unit, off uint64, f func(low, high uint64) bool) error {
	var all []pair
	indexed := func(c *cursor) uint64 {
		addr, ok := t.addressAt(u, c.uleb())
		c.bad = c.bad || !ok
		return addr
	}
	err := u.in.rangeLists.parse(off, func(c *cursor) {
		all = all[:0]
		for base := u.low; t.another(c, all); {
			switch c.u8() {
			case rangeEnd:
				return
			case rangeBaseAddressx:
				base = indexed(c)
			case rangeStartxEndx:
				all = append(all, pair{indexed(c), indexed(c)})
			case rangeStartxLength:
				low := indexed(c)
				all = append(all, pair{low, low + c.uleb()})
			case rangeOffsetPair:
				all = append(all, pair{base + c.uleb(), base + c.uleb()})
			case rangeBaseAddress:
				base = c.number(8)
			case rangeStartEnd:
				all = append(all, pair{c.number(8), c.number(8)})
			case rangeStartLength:
				low := c.number(8)
				all = append(all, pair{low, low + c.uleb()})
			default:
				c.bad = true
			}
		}
	})
	return each(all, err, f)
}

func each(all []pair, err error, f func(low, high uint64) bool) error {
	if err != nil {
		return err
	}
	for _, p := range all {
		if !f(p.low, p.high) {
			break
		}
	}
	return nil
}
