// SPDX-License-Identifier: Apache-2.0

package gosym

import (
	"errors"
	"io"
)

// maxSteps bounds all walks of pc-value tables for one address, which takes
// some milliseconds. A function of a megabyte of code has 100,000 steps.
const maxSteps = 1 << 20

var errDamaged = errors.New("damaged pc-value table")

// query is a lookup under way.
type query struct {
	*Table
	function
	// steps is how many more steps in pc-value tables may be made.
	steps int
}

// value looks up a position, pc bytes into its function, in a pc-value table:
// pairs of variable-length numbers, a zigzag-coded change of the value and the
// length of the code it holds for, ended by a change of zero. Where there is
// no table, or it ends before pc, the value is -1.
func (q *query) value(table uint32, pc uint64) (int32, error) {
	if table == 0 || table == missing {
		return -1, nil
	}
	c := cursor{r: q.section, off: q.values + uint64(table)}
	if c.off > uint64(q.section.Size()) {
		return -1, io.ErrUnexpectedEOF
	}
	value, end := int32(-1), uint64(0)
	for first := true; q.steps > 0; first = false {
		q.steps--
		change, err := c.uvarint()
		if err != nil {
			return -1, err
		}
		if change == 0 && !first {
			return -1, nil
		}
		value += int32(change>>1) ^ -int32(change&1)
		length, err := c.uvarint()
		if err != nil {
			return -1, err
		}
		end += uint64(length) * q.quantum
		if pc < end {
			return value, nil
		}
	}
	return -1, errDamaged
}

// cursor reads bytes in order, a few at a time: most tables are short.
type cursor struct {
	r   io.ReaderAt
	off uint64
	buf [256]byte
	// next and n are the position in and the fill of buf.
	next, n int
}

func (c *cursor) byte() (byte, error) {
	if c.next == c.n {
		n, err := c.r.ReadAt(c.buf[:], int64(c.off))
		if n == 0 {
			return 0, err
		}
		c.off, c.next, c.n = c.off+uint64(n), 0, n
	}
	b := c.buf[c.next]
	c.next++
	return b, nil
}

// uvarint reads a number of up to 32 bits, the low 7 bits first.
func (c *cursor) uvarint() (uint32, error) {
	var v uint32
	for shift := 0; shift < 35; shift += 7 {
		b, err := c.byte()
		if err != nil {
			return 0, err
		}
		v |= uint32(b&0x7f) << shift
		if b < 0x80 {
			return v, nil
		}
	}
	return 0, errDamaged
}
