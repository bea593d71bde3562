// SPDX-License-Identifier: Apache-2.0

package gopclntab

import (
	"bytes"
	"fmt"
)

// Name reads the name of a function, as far as it has no more than most bytes.
func (r *Reader) Name(name uint32, most int) (string, error) {
	return r.string(r.names+uint64(name), most)
}

// File reads the i-th file of those of the function's compilation unit, as far as
// its name has no more than most bytes. It is empty if there is none. Go 1.16 and
// later have these.
func (r *Reader) File(f *Record, i int32, most int) (string, error) {
	if i < 0 || f.unit == Missing {
		return "", nil
	}
	off, err := r.number(r.units + (uint64(f.unit)+uint64(i))*4)
	if err != nil || off == Missing {
		return "", err
	}
	return r.string(r.files+uint64(off), most)
}

// string reads what ends with a zero byte or the section.
func (r *Reader) string(off uint64, most int) (string, error) {
	b, err := r.src.From(off)
	if err != nil {
		return "", err
	}
	if i := bytes.IndexByte(b, 0); i >= 0 {
		return string(b[:min(i, most)]), nil
	}
	var s []byte
	for {
		part, _, whole := bytes.Cut(b, []byte{0})
		s = append(s, part...)
		off += uint64(len(b))
		if whole || len(s) >= most || off >= r.size {
			return string(s[:min(len(s), most)]), nil
		}
		if b, err = r.src.From(off); err != nil {
			return "", err
		}
	}
}

// EachName visits the names in the table, of Go 1.16 and later, with what Record.Name
// is of such functions. Of a name it shows the first most bytes, valid until visit
// returns. It ends with the first error of visit.
func (r *Reader) EachName(most int, visit func(name uint32, text []byte) error) error {
	if r.names > r.units {
		return fmt.Errorf("names from %#x to %#x: %w", r.names, r.units, ErrDamaged)
	}
	var begun []byte // of a name whose end is not at hand yet
	start := r.names
	for off := r.names; off < r.units; {
		b, err := r.src.From(off)
		if err != nil {
			return err
		}
		b = b[:min(uint64(len(b)), r.units-off)]
		off += uint64(len(b))
		for len(b) > 0 {
			text, rest, whole := bytes.Cut(b, []byte{0})
			if !whole || len(begun) > 0 {
				begun = append(begun, text[:min(len(text), most-len(begun))]...)
				text = begun
			}
			if !whole && off < r.units {
				break
			}
			if err := visit(uint32(start-r.names), text[:min(len(text), most)]); err != nil {
				return err
			}
			start, begun, b = off-uint64(len(rest)), begun[:0], rest
		}
	}
	return nil
}
