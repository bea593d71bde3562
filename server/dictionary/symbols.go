// SPDX-License-Identifier: Apache-2.0

package dictionary

import (
	"crypto/sha256"
	"encoding/binary"
)

// Symbols are the locations that stacks refer to, by pages, since those who ask seldom need all of
// them. Page i begins with location i*PageLen, and is a dictionary of its own with all that its locations refer to.
// Pages are never changed.
type Symbols interface {
	// Len is how many locations there are.
	Len() int
	// PageLen is how many of them a page has, at least 1; the last one has what is left.
	PageLen() int
	Page(i int) (*Dictionary, error)
	// Fingerprints has one for each location, or none at all.
	Fingerprints() ([]Fingerprint, error)
}

// Fingerprint stands for all that a location says: the first half of a SHA-256, so that nobody finds
// another location for it. Most of what one block refers to another does too, and then need not be read.
type Fingerprint [16]byte

// Fingerprint gives that of a location.
func (d *Dictionary) Fingerprint(location uint32) Fingerprint {
	l := &d.Locations[location]
	var b []byte
	number := func(n uint64) { b = binary.AppendUvarint(b, n) }
	text := func(i uint32) {
		number(uint64(len(d.Strings[i])))
		b = append(b, d.Strings[i]...)
	}
	number(l.Address)
	if l.Mapping == 0 {
		number(0)
	} else {
		m := &d.Mappings[l.Mapping-1]
		number(1)
		number(m.Start)
		number(m.Limit)
		number(m.Offset)
		number(uint64(m.Resolved))
		text(m.File)
		text(m.BuildID)
	}
	if l.Folded {
		number(1)
	} else {
		number(0)
	}
	for _, line := range l.Lines {
		f := &d.Functions[line.Function]
		number(uint64(line.Line))
		number(uint64(line.Column))
		number(uint64(f.StartLine))
		text(f.Name)
		text(f.SystemName)
		text(f.File)
	}
	sum := sha256.Sum256(b)
	return Fingerprint(sum[:])
}

// AllSymbols are the locations of a dictionary that is in memory, as one page.
type AllSymbols struct{ *Dictionary }

// Len is how many locations there are.
func (s AllSymbols) Len() int { return len(s.Locations) }

// PageLen is how many locations a page has.
func (s AllSymbols) PageLen() int { return max(1, len(s.Locations)) }

// Page gives the page. It never fails.
func (s AllSymbols) Page(int) (*Dictionary, error) { return s.Dictionary, nil }

// Fingerprints gives none: what is in memory need not be read.
func (s AllSymbols) Fingerprints() ([]Fingerprint, error) { return nil, nil }
