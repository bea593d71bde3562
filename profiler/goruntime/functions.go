// SPDX-License-Identifier: Apache-2.0

package goruntime

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"strings"

	"github.com/fleetprof/fleetprof/internal/objfile"
)

const (
	// tableMagic is that of Go 1.20 to 1.26.
	tableMagic = 0xfffffff1
	// maxFunctions bounds the table; the largest programs have some 300,000.
	maxFunctions = 4 << 20
	// maxNamed bounds how many functions are kept by name; net/http and gRPC
	// have some 150 of those that are wanted.
	maxNamed = 1 << 10
	// longestName is how much of a name is looked at, in bytes.
	longestName = 256
	// maxSteps bounds the walk of one function's table of stack depths.
	maxSteps = 1 << 16
)

// functions reads .gopclntab by name: where functions are and how deep their
// stack is at a position. profiler/unwind and symbolize/gosym read the same
// table by address.
type functions struct {
	*objfile.File
	section *io.SectionReader
	// text is what function addresses count from.
	text, quantum, count uint64
	// Offsets in the section: names up to units, stack depths, functions.
	names, units, depths, functions uint64
}

// function is one function of a program.
type function struct {
	name string
	// start and end are addresses as linked.
	start, end uint64
	// depths is the offset of its table of stack depths.
	depths uint64
}

func openFunctions(f *objfile.File) (*functions, error) {
	s, ok := f.GoTable()
	if !ok {
		return nil, ErrNotGo
	}
	t := &functions{File: f, section: f.Reader(s)}
	var h [8 + 8*8]byte
	if err := t.at(h[:], 0); err != nil {
		return nil, err
	}
	if binary.LittleEndian.Uint32(h[:]) != tableMagic || h[7] != 8 {
		return nil, ErrNotGo
	}
	word := func(i int) uint64 { return binary.LittleEndian.Uint64(h[8+8*i:]) }
	t.quantum, t.count = uint64(h[6]), word(0)
	t.names, t.units, t.depths, t.functions = word(3), word(4), word(6), word(7)
	size := uint64(t.section.Size())
	if t.quantum == 0 || t.count == 0 || t.count > maxFunctions || t.names > t.units ||
		max(t.units, t.depths, t.functions) > size || t.count*8+4 > size-t.functions {
		return nil, ErrDamaged
	}
	first, err := t.word(t.functions)
	if err != nil {
		return nil, err
	}
	last, err := t.word(t.functions + t.count*8)
	if err != nil {
		return nil, err
	}
	m, err := f.FindGoModule(s.Address, first, last)
	if err != nil {
		return nil, err
	}
	// The header has the start of the text in programs that are not position
	// independent, up to Go 1.25.
	if t.text = m.Text; t.text == 0 {
		t.text = word(2)
	}
	if t.text == 0 || !f.Executable(t.text+first) {
		return nil, fmt.Errorf("find start of Go text: %w", ErrDamaged)
	}
	return t, nil
}

// at fills b from an offset in the section.
func (t *functions) at(b []byte, off uint64) error {
	if off > uint64(t.section.Size()) {
		return ErrDamaged
	}
	n, err := t.section.ReadAt(b, int64(off))
	switch {
	case n == len(b):
		return nil
	case err == io.EOF:
		return ErrDamaged
	}
	return err
}

func (t *functions) word(off uint64) (uint64, error) {
	var b [4]byte
	err := t.at(b[:], off)
	return uint64(binary.LittleEndian.Uint32(b[:])), err
}

// named lists the functions whose names are wanted, ordered by address.
func (t *functions) named(wanted func(name []byte) bool) ([]function, error) {
	names, err := t.nameOffsets(wanted)
	if err != nil || len(names) == 0 {
		return nil, err
	}
	table := chunks{t: t}
	records := chunks{t: t}
	var found []function
	for i := range t.count {
		b, err := table.bytes(t.functions+8*i, 12)
		if err != nil {
			return nil, err
		}
		start, record, next := binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:]), binary.LittleEndian.Uint32(b[8:])
		// A record has: start, name, args, deferreturn, stack depths.
		r, err := records.bytes(t.functions+uint64(record), 20)
		if err != nil {
			return nil, err
		}
		name, ok := names[binary.LittleEndian.Uint32(r[4:])]
		if !ok {
			continue
		}
		if next < start || len(found) == maxNamed {
			return nil, ErrDamaged
		}
		found = append(found, function{
			name: name, start: t.text + uint64(start), end: t.text + uint64(next),
			depths: t.depths + uint64(binary.LittleEndian.Uint32(r[16:])),
		})
	}
	return found, nil
}

// nameOffsets finds the wanted names in the table of names.
func (t *functions) nameOffsets(wanted func(name []byte) bool) (map[uint32]string, error) {
	found := map[uint32]string{}
	buf := make([]byte, 64<<10)
	tail := false // in what is beyond longestName of a name
	for off := t.names; off < t.units; {
		b := buf[:min(uint64(len(buf)), t.units-off)]
		if err := t.at(b, off); err != nil {
			return nil, err
		}
		used := 0
		for used < len(b) {
			name, _, whole := bytes.Cut(b[used:], []byte{0})
			if !whole && used > 0 && len(name) < longestName && off+uint64(len(b)) < t.units {
				break // the rest comes with the next piece
			}
			if !tail && wanted(name[:min(len(name), longestName)]) {
				if len(found) == maxNamed {
					return nil, ErrDamaged
				}
				found[uint32(off+uint64(used)-t.names)] = strings.TrimSuffix(string(name[:min(len(name), longestName)]), ".abi0")
			}
			used += len(name)
			if tail = !whole; whole {
				used++
			}
		}
		off += uint64(used)
	}
	return found, nil
}

// depth is how far SP is below where it was at the entry of a function, in bytes.
func (t *functions) depth(f *function, pc uint64) (int64, error) {
	c := chunks{t: t, piece: 256}
	off := f.depths
	uvarint := func() (v uint32, err error) {
		for shift := 0; shift < 35; shift += 7 {
			b, err := c.bytes(off, 1)
			if err != nil {
				return 0, err
			}
			off++
			v |= uint32(b[0]&0x7f) << shift
			if b[0] < 0x80 {
				return v, nil
			}
		}
		return 0, ErrDamaged
	}
	at, depth := f.start, int64(-1)
	for step := range maxSteps {
		change, err := uvarint()
		if err != nil {
			return 0, err
		}
		if change == 0 && step > 0 {
			break
		}
		length, err := uvarint()
		if err != nil {
			return 0, err
		}
		depth += int64(int32(change>>1) ^ -int32(change&1))
		if at += uint64(length) * t.quantum; pc < at {
			if depth < 0 || depth > 1<<20 || depth%8 != 0 {
				return 0, ErrDamaged
			}
			return depth, nil
		}
	}
	return 0, ErrDamaged
}

// code reads the first n bytes of a function, or all of it.
func (t *functions) code(f *function, n uint64) ([]byte, error) {
	b := make([]byte, min(n, f.end-f.start))
	if err := t.ReadAddress(b, f.start); err != nil {
		return nil, fmt.Errorf("read code of %s: %w", f.name, err)
	}
	return b, nil
}

// chunks reads nearby bytes at ascending offsets with few reads.
type chunks struct {
	t     *functions
	piece int
	buf   []byte
	off   uint64
}

// bytes returns n bytes at an offset in the section, valid until the next call.
func (c *chunks) bytes(off uint64, n int) ([]byte, error) {
	if off < c.off || off-c.off > uint64(len(c.buf)) || len(c.buf)-int(off-c.off) < n {
		size := uint64(c.t.section.Size())
		if off > size || size-off < uint64(n) {
			return nil, ErrDamaged
		}
		if c.piece == 0 {
			c.piece = 64 << 10
		}
		if cap(c.buf) == 0 {
			c.buf = make([]byte, c.piece)
		}
		c.buf, c.off = c.buf[:min(uint64(c.piece), size-off)], off
		if err := c.t.at(c.buf, off); err != nil {
			c.buf = c.buf[:0]
			return nil, err
		}
	}
	return c.buf[off-c.off:][:n], nil
}
