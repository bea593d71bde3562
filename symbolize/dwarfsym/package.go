// SPDX-License-Identifier: Apache-2.0

package dwarfsym

import (
	"fmt"
	"os"
)

// Sections by their numbers in the index of a package. 5 and 8 are others in version 2, which GNU made for DWARF 4.
const (
	packageInfo       = 1
	packageTypes      = 2
	packageAbbrev     = 3
	packageStrOffsets = 6
	packageRangeLists = 8

	// indexHeader is the size of the header of an index, in bytes.
	indexHeader = 16
	// maxColumns bounds the sections of one unit, and maxProbes the places in which a hash table is looked for one.
	maxColumns = 16
	maxProbes  = 1 << 12
)

// row finds where in a package the sections of a unit are, by its dwo_id or signature, in the section
// .debug_cu_index or .debug_tu_index. That there is none wraps os.ErrNotExist. DWARF 5 section 7.3.5.3;
// https://gcc.gnu.org/wiki/DebugFissionDWP for version 2.
func (s *section) row(id uint64) (c contributions, err error) {
	columns, units, slots, err := s.indexHeader(&c)
	if err != nil {
		return c, err
	}
	row, err := s.probe(id, slots)
	if err != nil {
		return c, err
	}
	if row > units {
		return c, errShort
	}
	head := indexHeader + slots*12
	var ids, offsets []uint64
	for _, part := range []struct {
		at uint64
		to *[]uint64
	}{{head, &ids}, {head + columns*4*row, &offsets}} {
		b, err := s.upTo(part.at, columns*4)
		if err != nil || uint64(len(b)) < columns*4 {
			return c, errShort
		}
		for cur := (cursor{b: b}); cur.at < len(b); {
			*part.to = append(*part.to, cur.number(4))
		}
	}
	for i, id := range ids {
		switch {
		case id == packageInfo:
			c.info = offsets[i]
		case id == packageTypes && c.version < 5:
			c.types = offsets[i]
		case id == packageAbbrev:
			c.abbreviations = offsets[i]
		case id == packageStrOffsets:
			c.strOffsets = offsets[i]
		case id == packageRangeLists && c.version >= 5:
			c.rangeLists = offsets[i]
		}
	}
	return c, nil
}

func (s *section) indexHeader(c *contributions) (columns, units, slots uint64, err error) {
	b, err := s.upTo(0, indexHeader)
	if err != nil {
		return 0, 0, 0, err
	}
	h := cursor{b: b}
	c.version = h.u16()
	h.u16() // padding, or of a larger version
	columns, units, slots = h.number(4), h.number(4), h.number(4)
	switch {
	case h.bad:
		return 0, 0, 0, fmt.Errorf("index: %w", os.ErrNotExist)
	case c.version != 2 && c.version != 5:
		return 0, 0, 0, fmt.Errorf("index of version %d", c.version)
	case columns > maxColumns || slots&(slots-1) != 0 || slots > s.size/12:
		return 0, 0, 0, errShort
	}
	return columns, units, slots, nil
}

// probe finds the row of a unit in the hash table; rows count from 1.
func (s *section) probe(id, slots uint64) (row uint64, err error) {
	at, step := id&(slots-1), id>>32&(slots-1)|1
	for range min(slots, maxProbes) {
		key, err := s.upTo(indexHeader+at*8, 8)
		if err != nil || len(key) < 8 {
			return 0, errShort
		}
		c := cursor{b: key}
		same := c.number(8) == id
		b, err := s.upTo(indexHeader+slots*8+at*4, 4)
		if err != nil || len(b) < 4 {
			return 0, errShort
		}
		c = cursor{b: b}
		switch row = c.number(4); {
		case row == 0:
			return 0, fmt.Errorf("unit %#x: %w", id, os.ErrNotExist)
		case same:
			return row, nil
		}
		at = (at + step) & (slots - 1)
	}
	return 0, fmt.Errorf("unit %#x: %w", id, os.ErrNotExist)
}
