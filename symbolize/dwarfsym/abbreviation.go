// SPDX-License-Identifier: Apache-2.0

package dwarfsym

import (
	"math"
	"slices"
)

// abbreviation is the shape of entries, DWARF 5 section 7.5.3.
type abbreviation struct {
	tag         uint32
	children    bool
	first, past int32 // of its attributes
}

// attribute is one of a shape.
type attribute struct {
	name, form uint16
	place      int8  // in entry.values, -1 for none
	implicit   int32 // index of a value that all entries share
}

// abbreviations are those of one unit.
type abbreviations struct {
	// byCode has codes from 1 on, as they are without gaps as a rule; others are in rest.
	byCode     []abbreviation
	rest       map[uint64]abbreviation
	attributes []attribute
	implicit   []int64
}

const (
	// maxAttributes bounds the attributes of all abbreviations of one unit, and so these.
	maxAttributes = 1 << 17
	// maxShape bounds the attributes of one abbreviation.
	maxShape = 1 << 8
	// keptAbbreviations bounds how many units' are kept, besides those of units that are.
	keptAbbreviations = 64

	abbreviationBytes = 16
	attributeBytes    = 12
)

func (a *abbreviations) bytes() int64 {
	return int64(cap(a.byCode)+4*len(a.rest))*abbreviationBytes + int64(cap(a.attributes))*attributeBytes + 8*int64(cap(a.implicit))
}

// get finds one by its code.
func (a *abbreviations) get(code uint64) (abbreviation, bool) {
	if code-1 < uint64(len(a.byCode)) {
		return a.byCode[code-1], true
	}
	found, ok := a.rest[code]
	return found, ok
}

// abbreviationsOf reads those of a unit.
func (s *sections) abbreviationsOf(u *unit) (*abbreviations, error) {
	if known, ok := s.abbreviations[u.abbreviations]; ok {
		return known, nil
	}
	var all *abbreviations
	err := s.abbrev.parse(u.abbreviations, func(c *cursor) {
		all = new(abbreviations)
		for all.read(c) {
		}
	})
	if err != nil {
		return nil, err
	}
	all.byCode, all.attributes = slices.Clip(all.byCode), slices.Clip(all.attributes)
	if len(s.abbreviations) >= keptAbbreviations {
		clear(s.abbreviations)
	}
	s.abbreviations[u.abbreviations] = all
	return all, nil
}

// read reads one; false after the last.
func (a *abbreviations) read(c *cursor) bool {
	code := c.uleb()
	if code == 0 || c.bad {
		return false
	}
	one := abbreviation{tag: uint32(min(c.uleb(), math.MaxUint32)), children: c.u8() != 0, first: int32(len(a.attributes))}
	for {
		name, form := c.uleb(), c.uleb()
		at := attribute{name: uint16(min(name, math.MaxUint16)), form: uint16(min(form, math.MaxUint16)), place: -1}
		if form == formImplicit {
			at.implicit = int32(len(a.implicit))
			a.implicit = append(a.implicit, c.sleb())
		}
		if name == 0 && form == 0 || c.bad {
			break
		}
		if i, ok := placeOf[name]; ok {
			at.place = i
		}
		a.attributes = append(a.attributes, at)
	}
	one.past = int32(len(a.attributes))
	if code == uint64(len(a.byCode))+1 {
		a.byCode = append(a.byCode, one)
	} else {
		if a.rest == nil {
			a.rest = make(map[uint64]abbreviation)
		}
		a.rest[code] = one
	}
	if one.past-one.first > maxShape || len(a.attributes)+len(a.byCode)+len(a.rest) > maxAttributes {
		c.bad = true
	}
	return !c.bad
}
