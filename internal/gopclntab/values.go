// SPDX-License-Identifier: Apache-2.0

package gopclntab

// Values walks a pc-value table: pairs of variable-length numbers, a zigzag-coded
// change of the value and the length of the code it holds for, ended by a change of
// zero.
type Values struct {
	// Value holds from Start up to End, in bytes from the function's start. Of a
	// damaged table End may be Start.
	Value      int32
	Start, End uint64

	r *Reader
	// rest is at hand, off where it ends in the section.
	rest  []byte
	off   uint64
	begun bool
}

// Values returns a walk that stands before the first value of a pc-value table. While it
// is under way, its reader must not be used for anything else.
func (r *Reader) Values(table uint32) Values {
	return Values{Value: -1, r: r, off: r.values + uint64(table)}
}

// Next goes on to the next value. It returns false behind the last.
func (v *Values) Next() (bool, error) {
	// Most numbers have one byte.
	if b := v.rest; len(b) > 1 && b[0]|b[1] < 0x80 && (b[0] != 0 || !v.begun) {
		v.rest = b[2:]
		v.step(uint32(b[0]), uint32(b[1]))
		return true, nil
	}
	change, err := v.uvarint()
	if err != nil || change == 0 && v.begun {
		return false, err
	}
	length, err := v.uvarint()
	if err != nil {
		return false, err
	}
	v.step(change, length)
	return true, nil
}

// step makes it the next value, by its change and the length of its code.
func (v *Values) step(change, length uint32) {
	v.begun = true
	v.Value += int32(change>>1) ^ -int32(change&1)
	v.Start, v.End = v.End, v.End+uint64(length)*v.r.Quantum
}

// uvarint reads a number of up to 32 bits, the low 7 bits first.
func (v *Values) uvarint() (n uint32, err error) {
	for shift := 0; shift < 35; shift += 7 {
		if len(v.rest) == 0 {
			if v.rest, err = v.r.src.From(v.off); err != nil {
				return 0, err
			}
			v.off += uint64(len(v.rest))
		}
		b := v.rest[0]
		v.rest = v.rest[1:]
		n |= uint32(b&0x7f) << shift
		if b < 0x80 {
			return n, nil
		}
	}
	return 0, ErrDamaged
}
