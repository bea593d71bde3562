// SPDX-License-Identifier: Apache-2.0

package dwarfsym

// unit is the contribution of one source file, with all that it includes, or of one type.
type unit struct {
	in            *sections
	content       *section // that it is in
	offset, end   uint64   // in content
	entries       uint64   // where the first entry is
	abbreviations uint64   // in .debug_abbrev
	// id is what finds the unit: of a skeleton and of a split unit the same, of a type unit its signature.
	id          uint64
	typeEntry   uint64 // of a type unit, where its type is
	version     uint16
	kind        uint8
	is64        bool
	addressSize uint8
	readable    bool // as far as its header tells
	hasLines    bool

	// Of its first entry.
	lines      uint64 // in .debug_line
	directory  value
	low        uint64
	strOffsets uint64
	addrBase   uint64
	rangesBase uint64

	// splitName is set for a skeleton: the file that has the split unit.
	splitName value
	// skeleton is that of a split unit. It has addresses and lines.
	skeleton *unit
}

// Types of units, DWARF 5 section 7.5.1.
const (
	unitCompile = iota + 1
	unitType
	unitPartial
	unitSkeleton
	unitSplitCompile
	unitSplitType
)

const unitBytes = 160

// readHeader reads the header of a unit at its offset, DWARF 5 section 7.5.1.
func (u *unit) readHeader() error {
	return u.content.parse(u.offset, func(c *cursor) {
		var n uint64
		n, u.is64 = c.length()
		u.end = c.place() + n
		if u.end < n || u.end > u.content.size {
			c.bad = true
		}
		u.version, u.kind = c.u16(), unitCompile
		if u.version >= 5 {
			u.kind = c.u8()
			u.addressSize = c.u8()
			u.abbreviations = c.offset(u.is64)
		} else {
			u.abbreviations = c.offset(u.is64)
			u.addressSize = c.u8()
			if u.content.ofTypes {
				u.kind = unitType
			}
		}
		switch u.kind {
		case unitSkeleton, unitSplitCompile:
			u.id = c.number(8)
		case unitType, unitSplitType:
			u.id = c.number(8)
			u.typeEntry = u.offset + c.offset(u.is64)
		}
		u.entries = c.place()
		u.readable = u.version >= 2 && u.version <= 5 && u.addressSize == 8 && u.kind >= unitCompile && u.kind <= unitSplitType
	})
}

func (u *unit) isType() bool { return u.kind == unitType || u.kind == unitSplitType }

// holds tells whether an entry of the unit can be at an offset.
func (u *unit) holds(off uint64) bool { return off >= u.entries && off < u.end }

// entry is what is used of one.
type entry struct {
	tag      uint32
	children bool
	values   [8]value
}

// Places in entry.values.
const (
	low = iota
	high
	ranges
	name
	linkage
	origin
	callFile
	callLine
)

var placeOf = map[uint64]int8{
	attrLowPC: low, attrHighPC: high, attrRanges: ranges, attrName: name, attrLinkage: linkage, attrLinkageMIPS: linkage,
	attrOrigin: origin, attrSpecification: origin, attrCallFile: callFile, attrCallLine: callLine,
}

// entry reads the next one; its tag is 0 at the end of a list of children.
func (c *cursor) entry(u *unit, all *abbreviations, e *entry, also func(name uint16, v value)) {
	*e = entry{}
	code := c.uleb()
	if code == 0 {
		return
	}
	a, ok := all.get(code)
	if !ok {
		c.bad = true
		return
	}
	e.tag, e.children = a.tag, a.children
	c.attributes += int(a.past - a.first)
	for _, at := range all.attributes[a.first:a.past] {
		var v value
		if at.form == formImplicit {
			v = value{classNumber, uint64(all.implicit[at.implicit])}
		} else {
			v = c.value(uint64(at.form), u)
		}
		if at.place >= 0 {
			e.values[at.place] = v
		} else if also != nil {
			also(at.name, v)
		}
	}
}

// readFirst reads the first entry, and notes what it says of the whole unit.
func (t *Table) readFirst(u *unit) (e entry, err error) {
	all, err := u.in.abbreviationsOf(u)
	if err != nil {
		return e, err
	}
	err = u.content.parse(u.entries, func(c *cursor) {
		c.entry(u, all, &e, func(name uint16, v value) {
			switch name {
			case attrLines:
				u.lines, u.hasLines = v.n, true
			case attrDirectory:
				u.directory = v
			case attrStrOffsetsBase:
				u.strOffsets = v.n
			case attrAddrBase, attrGNUAddrBase:
				u.addrBase = v.n
			case attrRangesBase, attrGNURangesBase:
				u.rangesBase = v.n
			case attrSplitName, attrGNUSplitName:
				u.splitName = v
			case attrGNUSplitID:
				u.id = v.n
			}
		})
	})
	if err == nil && u.skeleton == nil {
		u.low, _ = t.address(u, e.values[low])
	}
	return e, err
}

// address resolves the value of an address.
func (t *Table) address(u *unit, v value) (addr uint64, ok bool) {
	switch v.class {
	case classAddress:
		return v.n, true
	case classAddrx:
		return t.addressAt(u, v.n)
	}
	return 0, false
}

func (t *Table) addressAt(u *unit, index uint64) (addr uint64, ok bool) {
	if u.skeleton != nil {
		u = u.skeleton
	}
	b, err := u.in.addr.upTo(u.addrBase+index*8, 8)
	if err != nil || len(b) < 8 || index > maxPiece {
		return 0, false
	}
	c := cursor{b: b}
	return c.number(8), true
}

// text resolves the value of a string; "" is none.
func (t *Table) text(u *unit, v value) (string, error) {
	switch v.class {
	case classInline:
		return u.content.text(v.n)
	case classStrp:
		return u.in.str.text(v.n)
	case classLineStrp:
		return u.in.lineStr.text(v.n)
	case classStrpSup:
		if t.supplement != nil {
			return t.supplement.str.text(v.n)
		}
	case classStrx:
		off, err := u.offsetIn(u.in.strOffsets, u.strOffsets, v.n)
		if err != nil {
			return "", err
		}
		return u.in.str.text(off)
	}
	return "", nil
}

// offsetIn reads an offset by its index in an array that begins at base.
func (u *unit) offsetIn(s *section, base, index uint64) (uint64, error) {
	size := uint64(4)
	if u.is64 {
		size = 8
	}
	b, err := s.upTo(base+index*size, size)
	if err != nil || uint64(len(b)) < size || index > maxPiece {
		return 0, errShort
	}
	c := cursor{b: b}
	return c.number(int(size)), nil
}
