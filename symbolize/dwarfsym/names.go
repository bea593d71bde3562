// SPDX-License-Identifier: Apache-2.0

package dwarfsym

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
)

// maxReferences bounds how many entries lead from a call to the name of what is called.
const maxReferences = 16

var errNoUnit = errors.New("in no unit")

// nameOf gives the names of the function of a scope, as far as they can be found.
func (t *Table) nameOf(p *parsed, scope int32) (short, linker string) {
	at := p.scopes[scope].entry
	if known, ok := p.names[at]; ok {
		return known[0], known[1]
	}
	short, linker, err := t.findName(p, at)
	if err != nil {
		t.problem(err)
	}
	t.units.name(p, at, short, linker)
	return short, linker
}

// findName finds the name of a function by its entry, which is in the unit p: the linker's name if
// it has one. What only a supplementary file would tell is not known without it.
func (t *Table) findName(p *parsed, at uint64) (short, linker string, err error) {
	u := p.unit
	for range maxReferences {
		all := p.shapes
		if u != p.unit {
			if all, err = u.in.abbreviationsOf(u); err != nil {
				return short, linker, err
			}
		}
		var e entry
		if err := u.content.parseWithin(at, chunkBytes, func(c *cursor) { c.entry(u, all, &e, nil) }); err != nil {
			return short, linker, fmt.Errorf("entry at %#x: %w", at, err)
		}
		if linker, err = t.text(u, e.values[linkage]); err != nil {
			return short, "", err
		}
		if short == "" {
			if short, err = t.text(u, e.values[name]); err != nil {
				return "", linker, err
			}
		}
		if linker != "" {
			break
		}
		var next *unit
		if next, at, err = t.referred(u, e.values[origin]); next == nil {
			return short, linker, err
		}
		u = next
	}
	return short, linker, nil
}

// referred finds the entry that a reference of an entry in u leads to; without one the unit is nil.
func (t *Table) referred(u *unit, v value) (to *unit, at uint64, err error) {
	at = v.n
	switch v.class {
	case classRef:
		to = u
	case classRefAddr:
		in := u.content
		if in.ofTypes {
			in = u.in.info
		}
		to = u.in.unitOf(in, at)
	case classRefSup:
		if t.supplement == nil {
			return nil, 0, nil
		}
		to = t.supplement.unitOf(t.supplement.info, at)
	case classSignature:
		if to, err = t.typeUnit(u, v.n); err != nil {
			return nil, 0, fmt.Errorf("type %#x: %w", v.n, err)
		}
		at = to.typeEntry
	default:
		return nil, 0, nil
	}
	if to == nil || !to.holds(at) {
		return nil, 0, fmt.Errorf("entry at %#x: %w", at, errNoUnit)
	}
	return to, at, nil
}

// signature finds a type unit.
type signature struct {
	of uint64
	place
}

// place is that of a unit.
type place struct {
	in     *section
	offset uint64
}

const signatureBytes = 24

// typeUnit finds the type unit with a signature in the file that u is in.
func (t *Table) typeUnit(u *unit, of uint64) (*unit, error) {
	var at place
	var c contributions
	if u.in.tuIndex.size > 0 {
		var err error
		if c, err = u.in.tuIndex.row(of); err != nil {
			return nil, err
		}
		if at = (place{u.in.info, c.info}); c.version < 5 {
			at = place{u.in.ofUnits[len(u.in.ofUnits)-1], c.types}
		}
	} else {
		i, found := slices.BinarySearchFunc(u.in.signatures, of, func(s signature, of uint64) int { return cmp.Compare(s.of, of) })
		if !found {
			return nil, errNoUnit
		}
		at = u.in.signatures[i].place
	}
	found := &unit{in: u.in, content: at.in, offset: at.offset, skeleton: u.skeleton}
	if err := found.readHeader(); err != nil {
		return nil, err
	}
	if !found.readable || !found.isType() || found.id != of {
		return nil, errNoUnit
	}
	if u.skeleton != nil {
		found.belongTo(u.skeleton, c)
	}
	_, err := t.readFirst(found)
	return found, err
}
