// SPDX-License-Identifier: Apache-2.0

package dwarfsym

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/fleetprof/fleetprof/internal/objfile"
)

// sections are those of one file that has units: the file itself, the supplementary one, a package, or one of
// split units. They are not safe for concurrent use.
type sections struct {
	// info is the first of those with units. Files that are not linked have one for each type unit.
	info          *section
	ofUnits       []*section // also those of type units, up to DWARF 4; in the order of their numbers
	abbrev        *section
	str, lineStr  *section
	strOffsets    *section
	addr, ranges  *section
	rangeLists    *section
	line          *section
	cuIndex       *section // of a package
	tuIndex       *section
	all           []*section
	units         []*unit     // of info without type units, in their order
	signatures    []signature // of type units, in their order
	abbreviations map[uint64]*abbreviations
}

// Suffixes of the names of sections.
const (
	whole = ""
	split = ".dwo" // of split units, in their own files and in packages
)

// openSections finds those of a file whose names end in suffix.
func openSections(f *objfile.File, suffix string, in *inflater) (s *sections, err error) {
	s = &sections{abbreviations: make(map[uint64]*abbreviations)}
	for _, one := range []struct {
		name string
		to   **section
	}{
		{".debug_info" + suffix, &s.info}, {".debug_abbrev" + suffix, &s.abbrev}, {".debug_str" + suffix, &s.str},
		{".debug_line_str" + suffix, &s.lineStr}, {".debug_str_offsets" + suffix, &s.strOffsets},
		{".debug_addr" + suffix, &s.addr}, {".debug_ranges" + suffix, &s.ranges}, {".debug_rnglists" + suffix, &s.rangeLists},
		{".debug_line" + suffix, &s.line}, {".debug_cu_index", &s.cuIndex}, {".debug_tu_index", &s.tuIndex},
	} {
		found, err := in.sections(f, one.name)
		if err != nil {
			return nil, err
		}
		*one.to = found[0]
		s.all = append(s.all, found[0])
		if one.to == &s.info {
			s.ofUnits = found
		}
	}
	types, err := in.sections(f, ".debug_types"+suffix)
	for _, one := range types {
		one.ofTypes = true
		s.ofUnits = append(s.ofUnits, one)
	}
	for i, one := range s.ofUnits {
		one.number = i
	}
	s.all = append(s.all, s.ofUnits[1:]...)
	return s, err
}

// bytes is the memory that they take, 0 of nil.
func (s *sections) bytes() (n int64) {
	if s == nil {
		return 0
	}
	for _, one := range s.all {
		if one.whole {
			n += int64(one.size)
		} else {
			n += int64(min(one.size, chunkBytes))
		}
	}
	return n + int64(cap(s.units))*(8+unitBytes) + int64(cap(s.signatures))*signatureBytes
}

// trim lets go of what is larger than usual.
func (s *sections) trim() {
	if s == nil {
		return
	}
	for _, one := range s.all {
		one.trim()
	}
}

// maxUnits bounds the units of a file. A browser has some 30,000.
const maxUnits = 1 << 18

// readUnits reads the headers of all units, and calls visit with each that has been noted.
func (s *sections) readUnits(visit func(*unit) error) error {
	for _, in := range s.ofUnits {
		for off := uint64(0); off < in.size; {
			u := &unit{in: s, content: in, offset: off}
			err := u.readHeader()
			if err == nil && len(s.units)+len(s.signatures) == maxUnits {
				err = errTooLarge
			}
			if err != nil {
				return fmt.Errorf("read unit at %#x: %w", off, err)
			}
			off = u.end
			switch {
			case !u.readable:
				continue
			case u.isType():
				s.signatures = append(s.signatures, signature{u.id, place{in, u.offset}})
			default:
				s.units = append(s.units, u)
			}
			if err := visit(u); err != nil {
				return fmt.Errorf("read unit at %#x: %w", u.offset, err)
			}
		}
		if len(s.ofUnits) > 1 {
			in.chunk = nil // there may be thousands
		}
	}
	slices.SortFunc(s.signatures, func(a, b signature) int { return cmp.Compare(a.of, b.of) })
	s.units, s.signatures = slices.Clip(s.units), slices.Clip(s.signatures)
	return nil
}

// unitOf finds the unit that a place lies in; nil if there is none.
func (s *sections) unitOf(in *section, off uint64) *unit {
	i, found := slices.BinarySearchFunc(s.units, off, func(u *unit, off uint64) int {
		return cmp.Or(cmp.Compare(u.content.number, in.number), cmp.Compare(u.offset, off))
	})
	if !found {
		i--
	}
	if i < 0 || s.units[i].content != in || !s.units[i].holds(off) {
		return nil
	}
	return s.units[i]
}
