// SPDX-License-Identifier: Apache-2.0

package unwind

import (
	"bytes"
	"encoding/binary"
)

// cursor reads foreign bytes in order. Once a read went wrong it is bad, and
// all reads give 0.
type cursor struct {
	b   []byte
	pos int
	bad bool
}

func (c *cursor) left() int { return len(c.b) - c.pos }

// take returns the next n bytes, or nil.
func (c *cursor) take(n uint64) []byte {
	if c.bad || n > uint64(c.left()) {
		c.bad = true
		return nil
	}
	c.pos += int(n)
	return c.b[c.pos-int(n) : c.pos]
}

// fixed reads an unsigned number of 1, 2, 4 or 8 bytes.
func (c *cursor) fixed(size uint64) uint64 {
	b := c.take(size)
	if b == nil {
		return 0
	}
	switch size {
	case 1:
		return uint64(b[0])
	case 2:
		return uint64(binary.LittleEndian.Uint16(b))
	case 4:
		return uint64(binary.LittleEndian.Uint32(b))
	}
	return binary.LittleEndian.Uint64(b)
}

func (c *cursor) byte() byte { return byte(c.fixed(1)) }

// uleb reads a ULEB128 number; bits beyond 64 are not kept.
func (c *cursor) uleb() uint64 {
	v, _, _ := c.leb()
	return v
}

// sleb reads a SLEB128 number.
func (c *cursor) sleb() int64 {
	v, bits, negative := c.leb()
	if negative && bits < 64 {
		v |= ^uint64(0) << bits
	}
	return int64(v)
}

func (c *cursor) leb() (v uint64, bits uint, negative bool) {
	for !c.bad {
		b := c.byte()
		v |= uint64(b&0x7f) << bits // 0 from bit 64 on
		bits += 7
		if b < 0x80 {
			return v, bits, b&0x40 != 0
		}
	}
	return 0, 0, false
}

// str reads a NUL-terminated string.
func (c *cursor) str() string {
	n := bytes.IndexByte(c.b[c.pos:], 0)
	if c.bad || n < 0 {
		c.bad = true
		return ""
	}
	return string(c.take(uint64(n) + 1)[:n])
}

// Pointer encodings, LSB Core 10.5.1.
const (
	peFormat   = 0x0f
	peRelative = 0x70
	peIndirect = 0x80
	peOmit     = 0xff

	peAbsolute = 0x00
	peULEB     = 0x01
	peU2       = 0x02
	peU4       = 0x03
	peU8       = 0x04
	peSigned   = 0x08
	peSLEB     = 0x09
	pePCRel    = 0x10
	peDataRel  = 0x30
)

// pointer reads an encoded pointer. field is the address of c.b[0], data what
// data-relative pointers count from. What cannot be known from the file alone
// (indirect, relative to the text or a function) makes the cursor bad.
func (c *cursor) pointer(encoding byte, field, data uint64) uint64 {
	base := uint64(0)
	switch encoding & (peRelative | peIndirect) {
	case 0:
	case pePCRel:
		base = field + uint64(c.pos)
	case peDataRel:
		base = data
	default:
		c.bad = true
	}
	switch format := encoding & peFormat; format {
	case peAbsolute, peU8, peU8 | peSigned:
		return base + c.fixed(8)
	case peULEB:
		return base + c.uleb()
	case peSLEB:
		return base + uint64(c.sleb())
	case peU2:
		return base + c.fixed(2)
	case peU4:
		return base + c.fixed(4)
	case peU2 | peSigned:
		return base + uint64(int16(c.fixed(2)))
	case peU4 | peSigned:
		return base + uint64(int32(c.fixed(4)))
	}
	c.bad = true
	return 0
}
