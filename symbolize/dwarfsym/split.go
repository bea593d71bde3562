// SPDX-License-Identifier: Apache-2.0

package dwarfsym

import (
	"errors"
	"fmt"
	"os"

	"github.com/fleetprof/fleetprof/internal/objfile"
)

// ErrOther reports split units that are of another build than the program.
var ErrOther = errors.New("split unit of another build")

const (
	// maxSplitNames bounds the names of the functions of a split unit that are kept with it, in bytes.
	maxSplitNames = 4 << 20
	// maxSplitIndex bounds the index of the units of one file, in bytes: most are of types.
	maxSplitIndex = 4 << 20
)

// contributions are where the sections of a split unit begin in those of a package, all at 0 in a file of its own.
type contributions struct {
	version                                            uint16 // of the index
	info, types, abbreviations, strOffsets, rangeLists uint64
}

// belongTo makes u a unit that was split off, DWARF 5 section 7.3.2.2 (and 3.1.3): its addresses are with the
// skeleton. Its own offsets begin behind headers, which are new in version 5.
func (u *unit) belongTo(skeleton *unit, c contributions) {
	u.skeleton, u.low = skeleton, skeleton.low
	u.abbreviations += c.abbreviations
	u.strOffsets, u.rangesBase = c.strOffsets, c.rangeLists+u.rangesHeader()
	if u.version >= 5 {
		u.strOffsets += 8
		if u.is64 {
			u.strOffsets += 8
		}
	}
}

// rangesHeader is the size of what is before the offsets of range lists, DWARF 5 section 7.28.
func (u *unit) rangesHeader() uint64 {
	if u.is64 {
		return 20
	}
	return 12
}

// readSplit reads the functions of a unit from where they were split off to; nil if they were not, or are not to
// be had: the skeleton may tell of some.
func (t *Table) readSplit(u *unit) *parsed {
	if u.splitName.class == classNone {
		return nil
	}
	p, err := t.splitFromPackage(u)
	if err == nil {
		return p
	}
	p, cause := t.splitFromFile(u)
	if cause == nil {
		return p
	}
	if !errors.Is(cause, os.ErrNotExist) || t.pkg == nil {
		err = cause
	}
	t.incomplete = true
	t.problem(fmt.Errorf("%w at %#x: %w", ErrSplit, u.offset, err))
	return nil
}

// splitFromPackage reads it from the package.
func (t *Table) splitFromPackage(u *unit) (*parsed, error) {
	if t.pkg == nil {
		return nil, os.ErrNotExist
	}
	c, err := t.pkg.cuIndex.row(u.id)
	if err != nil {
		return nil, fmt.Errorf("package: %w", err)
	}
	found := &unit{in: t.pkg, content: t.pkg.info, offset: c.info}
	if err := found.readHeader(); err != nil {
		return nil, fmt.Errorf("package: %w", err)
	}
	found.belongTo(u, c)
	if found.readable {
		_, err = t.readFirst(found)
	}
	if err == nil && (!found.readable || found.id != u.id) {
		err = ErrOther
	}
	p := new(parsed)
	if err == nil {
		err = t.functions(found, p)
	}
	if err != nil {
		return nil, fmt.Errorf("package: %w", err)
	}
	return p, nil
}

// splitFromFile reads it from a file of its own. That is not kept open, so names are read at once.
func (t *Table) splitFromFile(u *unit) (p *parsed, err error) {
	name, err := t.text(u, u.splitName)
	if err != nil {
		return nil, err
	}
	directory, err := t.text(u, u.directory)
	if err != nil {
		return nil, err
	}
	if t.splitFiles == nil {
		return nil, fmt.Errorf("%s: %w", name, os.ErrNotExist)
	}
	err = t.splitFiles(directory, name, func(f *objfile.File) error {
		p, err = t.readSplitFile(u, f)
		return err
	})
	return p, err
}

func (t *Table) readSplitFile(u *unit, f *objfile.File) (*parsed, error) {
	in := inflater{left: t.scratch.left}
	defer in.close()
	s, err := openSections(f, split, &in)
	if err != nil {
		return nil, err
	}
	var found *unit
	err = s.readUnits(func(one *unit) error {
		if s.bytes() > maxSplitIndex {
			return errTooLarge
		}
		if one.isType() {
			return nil
		}
		one.belongTo(u, contributions{})
		if _, err := t.readFirst(one); err != nil {
			return err
		}
		if one.id == u.id {
			found = one
		}
		return nil
	})
	if err == nil && found == nil {
		err = ErrOther
	}
	if err != nil {
		return nil, err
	}
	p := new(parsed)
	if err := t.functions(found, p); err != nil {
		return nil, err
	}
	return p, t.allNames(p)
}

// allNames finds the names of all functions of p, which needs its file no more then.
func (t *Table) allNames(p *parsed) error {
	p.names = make(map[uint64][2]string)
	for _, one := range []*section{p.unit.in.str, p.unit.in.strOffsets} {
		one.whole = one.size <= maxSplitNames // names are in no order
	}
	size := 0
	var broken error
	for _, s := range p.scopes {
		if _, ok := p.names[s.entry]; ok {
			continue
		}
		short, linker, err := t.findName(p, s.entry)
		if err != nil {
			broken = err
		}
		if size += len(short) + len(linker); size > maxSplitNames {
			return fmt.Errorf("names: %w", errTooLarge)
		}
		p.names[s.entry] = [2]string{short, linker}
	}
	if broken != nil {
		t.problem(broken)
	}
	p.unit, p.shapes = nil, nil
	return nil
}
