// SPDX-License-Identifier: Apache-2.0

package unwind

import (
	"errors"
	"io"

	"github.com/fleetprof/fleetprof/internal/gopclntab"
)

const (
	// maxFDE bounds an FDE, in bytes. Generated code in one huge
	// function has reached 100 KB.
	maxFDE = 1 << 20
	// maxCIE bounds a CIE, which many FDEs may refer to; real ones have some 30.
	maxCIE = 4 << 10
	// maxCIEs bounds the cache of CIEs; linkers join equal ones.
	maxCIEs = 1 << 10
)

// errDamaged reports bytes that cannot be what they should.
var errDamaged = errors.New("damaged unwind information")

// frames reads .eh_frame or .debug_frame: a sequence of common information
// entries (CIE) and, referring to them, frame description entries (FDE), one per
// function and in no order.
type frames struct {
	*arch
	*window
	// addr is the section's address as linked, what pc-relative pointers need.
	addr uint64
	// debug says that it is a .debug_frame.
	debug bool
	// exact says that the section's end is known, so that an empty entry in the
	// midst of it, the terminator of one linked file, is not the end.
	exact bool

	cies map[uint64]*cie
}

// cie is what the functions of one common information entry share.
type cie struct {
	codeAlign uint64
	dataAlign int64
	// ra is the column of the return address.
	ra uint64
	// pointers is the encoding of addresses.
	pointers byte
	// augmented says that FDEs have augmentation data, preceded by its length.
	augmented bool
	// signal says that the function returns from a signal handler.
	signal bool
	// initial is the state that functions start with.
	initial state
}

// entry is a CIE or an FDE.
type entry struct {
	// cursor stands behind the field that tells the two apart.
	cursor
	// cie is the offset of the CIE of an FDE.
	cie   uint64
	isCIE bool
	// next is the offset of the entry behind this one. Its bytes are there.
	next uint64
	// field is the address of the cursor's first byte.
	field uint64
}

// entry reads the entry at off. One that is empty, or longer than limit, is
// returned without its bytes. The bytes are valid until the next read.
func (f *frames) entry(off, limit uint64) (entry, error) {
	e := entry{next: off + 4}
	head, err := f.Bytes(off, 4)
	if err != nil {
		return entry{}, err
	}
	c := cursor{b: head}
	length, idSize := c.fixed(4), uint64(4)
	if length == 0xffffffff {
		if head, err = f.Bytes(off+4, 8); err != nil {
			return entry{}, err
		}
		c = cursor{b: head}
		length, e.next = c.fixed(8), off+12
		if f.debug {
			idSize = 8
		}
	}
	body := e.next
	if length > f.size-body {
		return entry{}, io.ErrUnexpectedEOF
	}
	e.next, e.field = body+length, f.addr+body
	if length > limit {
		return e, nil
	}
	if e.b, err = f.Bytes(body, length); err != nil || length == 0 {
		return e, err
	}
	id := e.fixed(idSize)
	switch {
	case !f.debug:
		e.isCIE, e.cie = id == 0, body-id
	case idSize == 4:
		e.isCIE, e.cie = id == 0xffffffff, id
	default:
		e.isCIE, e.cie = id == ^uint64(0), id
	}
	return e, nil
}

// common reads the CIE at off.
func (f *frames) common(off uint64) (*cie, error) {
	if c, ok := f.cies[off]; ok {
		return c, damagedIf(c == nil)
	}
	if off >= f.size {
		return nil, errDamaged
	}
	e, err := f.entry(off, maxCIE)
	if err != nil {
		return nil, err
	}
	var c *cie
	if e.isCIE {
		c = f.parseCIE(&e)
	}
	if len(f.cies) == maxCIEs {
		clear(f.cies)
	}
	f.cies[off] = c
	return c, damagedIf(c == nil)
}

func damagedIf(damaged bool) error {
	if damaged {
		return errDamaged
	}
	return nil
}

// parseCIE returns nil for a CIE that is damaged or cannot be understood.
func (f *frames) parseCIE(e *entry) *cie {
	version := e.byte()
	augmentation := e.str()
	if version != 1 && version != 3 && version != 4 {
		return nil
	}
	if version == 4 {
		addressSize, segmentSize := e.byte(), e.byte()
		e.bad = e.bad || addressSize != 8 || segmentSize != 0
	}
	c := &cie{codeAlign: e.uleb(), dataAlign: e.sleb()}
	if version == 1 {
		c.ra = e.fixed(1)
	} else {
		c.ra = e.uleb()
	}
	c.augment(e, augmentation)
	if e.bad || c.codeAlign == 0 {
		return nil
	}
	f.setInitial(c, e)
	return c
}

// augment reads the augmentation data. Letters behind an unknown one are not
// read, which is what the length in front of the data is for.
func (c *cie) augment(e *entry, letters string) {
	if letters == "" {
		return
	}
	if letters[0] != 'z' { // "eh", of compilers before 2000, and unknown ones
		e.bad = true
		return
	}
	c.augmented = true
	data := cursor{b: e.take(e.uleb())}
	for _, letter := range []byte(letters[1:]) {
		switch letter {
		case 'R':
			c.pointers = data.byte()
		case 'P':
			if encoding := data.byte(); encoding != peOmit {
				data.pointer(encoding&peFormat, 0, 0)
			}
		case 'L':
			data.byte()
		case 'S':
			c.signal = true
		case 'B', 'G': // signed with the other key; tagged stack memory (arm64)
		default:
			return
		}
	}
	e.bad = e.bad || data.bad
}

// setInitial runs the instructions of a CIE, which have no addresses.
func (f *frames) setInitial(c *cie, e *entry) {
	p := program{arch: f.arch, cie: c}
	for e.left() > 0 {
		op := e.byte()
		if _, moves := p.advance(op, &e.cursor); moves || !p.step(op, &e.cursor) || e.bad {
			p.state.cfa = cfaRule{kind: Unsupported}
			break
		}
	}
	c.initial = p.state
}

// function is what an FDE begins with.
type function struct {
	start, size uint64
	cie         *cie
	// program holds the instructions, field the address of its first byte.
	program cursor
	field   uint64
}

// function reads the FDE at off; the entry's next is returned for any entry. ok
// is false for what is no FDE, or one of no code. An FDE that is damaged gives
// errDamaged.
func (f *frames) function(off uint64) (fn function, next uint64, ok bool, err error) {
	e, err := f.entry(off, maxFDE)
	if err != nil {
		return function{}, 0, false, err
	}
	if len(e.b) == 0 || e.isCIE || e.bad {
		tooLong := e.next-off > maxFDE
		return function{}, e.next, false, damagedIf(e.bad || tooLong)
	}
	c, err := f.common(e.cie)
	if err != nil {
		return function{}, e.next, false, err
	}
	if e, err = f.entry(off, maxFDE); err != nil { // reading the CIE has moved its bytes
		return function{}, e.next, false, err
	}
	fn = function{cie: c, field: e.field}
	fn.start = e.pointer(c.pointers, e.field, 0)
	fn.size = e.pointer(c.pointers&peFormat&^peSigned, 0, 0)
	if c.augmented {
		e.take(e.uleb())
	}
	if e.bad || fn.start+fn.size < fn.start {
		return function{}, e.next, false, errDamaged
	}
	fn.program = e.cursor
	return fn, e.next, fn.size > 0, nil
}

// spans lists the functions. What follows a damaged length cannot be found, and
// is counted as damage like single entries that are.
func (f *frames) spans(add func(start, size, ref uint64) error) (damaged int, err error) {
	for off := uint64(0); off+4 <= f.size; {
		fn, next, ok, err := f.function(off)
		switch {
		case isDamage(err):
			damaged++
		case err != nil:
			return damaged, err
		case ok:
			if err := add(fn.start, fn.size, off); err != nil {
				return damaged, err
			}
		}
		if next <= off || !f.exact && next == off+4 {
			break
		}
		off = next
	}
	return damaged, nil
}

// isDamage tells content that is wrong from a file that cannot be read.
func isDamage(err error) bool {
	return errors.Is(err, errDamaged) || errors.Is(err, gopclntab.ErrDamaged) || errors.Is(err, io.ErrUnexpectedEOF)
}

// rows gives the rows of the function at ref.
func (f *frames) rows(ref uint64, emit func(addr uint64, r Rule) error) error {
	fn, _, _, err := f.function(ref)
	if err != nil {
		return err
	}
	p := program{arch: f.arch, cie: fn.cie, state: fn.cie.initial, loc: fn.start, field: fn.field, emit: emit}
	return p.run(&fn.program)
}
