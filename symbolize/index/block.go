// SPDX-License-Identifier: Apache-2.0

package index

import (
	"encoding/binary"
	"math"
	"math/bits"
)

// A block is ended when it has so many rows, scopes or strings.
const (
	rowsPerBlock    = 512
	scopesPerBlock  = 512
	stringsPerBlock = 1024
)

// block is what the frames of ranges are made of that follow on each other.
type block struct {
	low, high uint64
	rows      []row
	scopes    []scope
	strings   []uint32 // offsets in the file
	scopeOf   map[scope]uint32
	stringOf  map[uint32]uint32
}

// row is a range that begins at an address relative to the block, and ends with the next one. Strings are numbered
// from 1; 0 is the empty one.
type row struct{ address, scope, file, line uint32 }

// scope is a function, called in its parent (its number and 1; 0 is none) at a line of a file.
type scope struct{ parent, function, system, file, line uint32 }

func newBlock(low uint64) *block {
	return &block{low: low, high: low, scopeOf: make(map[scope]uint32), stringOf: make(map[uint32]uint32)}
}

// takes tells whether a range may follow in the block.
func (b *block) takes(low, high uint64) bool {
	return low == b.high && high-b.low <= math.MaxUint32 &&
		len(b.rows) < rowsPerBlock && len(b.scopes) < scopesPerBlock && len(b.strings) < stringsPerBlock
}

// append adds a row up to an address, unless it says what the one before does.
func (b *block) append(r row, high uint64) {
	b.high = high
	if n := len(b.rows); n > 0 {
		if last := b.rows[n-1]; last.scope == r.scope && last.file == r.file && last.line == r.line {
			return
		}
	}
	b.rows = append(b.rows, r)
}

func (b *block) scope(s scope) uint32 {
	n, ok := b.scopeOf[s]
	if !ok {
		n = uint32(len(b.scopes))
		b.scopes, b.scopeOf[s] = append(b.scopes, s), n
	}
	return n
}

func (b *block) text(offset uint32) uint32 {
	n, ok := b.stringOf[offset]
	if !ok {
		b.strings = append(b.strings, offset)
		n = uint32(len(b.strings))
		b.stringOf[offset] = n
	}
	return n
}

func (b *block) encode() []byte {
	out := make([]byte, 0, 4<<10)
	for _, n := range []int{len(b.rows), len(b.scopes), len(b.strings)} {
		out = binary.LittleEndian.AppendUint16(out, uint16(n))
	}
	column := func(n int, value func(i int) uint32) { out = appendColumn(out, n, value) }
	column(len(b.rows)+1, func(i int) uint32 {
		if i == len(b.rows) {
			return uint32(b.high - b.low)
		}
		return b.rows[i].address
	})
	column(len(b.rows), func(i int) uint32 { return b.rows[i].scope })
	column(len(b.rows), func(i int) uint32 { return b.rows[i].file })
	column(len(b.rows), func(i int) uint32 { return b.rows[i].line })
	column(len(b.scopes), func(i int) uint32 { return b.scopes[i].parent })
	column(len(b.scopes), func(i int) uint32 { return b.scopes[i].function })
	column(len(b.scopes), func(i int) uint32 { return b.scopes[i].system })
	column(len(b.scopes), func(i int) uint32 { return b.scopes[i].file })
	column(len(b.scopes), func(i int) uint32 { return b.scopes[i].line })
	column(len(b.strings), func(i int) uint32 { return b.strings[i] })
	return out
}

// appendColumn writes n numbers, each with as many bytes as the largest less the smallest needs.
func appendColumn(out []byte, n int, value func(i int) uint32) []byte {
	low, high := uint32(math.MaxUint32), uint32(0)
	for i := range n {
		low, high = min(low, value(i)), max(high, value(i))
	}
	width := 0
	if n > 0 {
		width = (bits.Len32(high-low) + 7) / 8
	}
	out = binary.LittleEndian.AppendUint32(append(out, byte(width)), low)
	for i := range n {
		v := value(i) - low
		for range width {
			out = append(out, byte(v))
			v >>= 8
		}
	}
	return out
}

// column is numbers of a block that was read.
type column struct {
	width int
	low   uint32
	b     []byte
}

// at gives one of the numbers, of which there must be as many.
func (c *column) at(i int) uint32 {
	switch c.width {
	case 0:
		return c.low
	case 1:
		return c.low + uint32(c.b[i])
	case 2:
		return c.low + uint32(binary.LittleEndian.Uint16(c.b[2*i:]))
	case 3:
		b := c.b[3*i:][:3]
		return c.low + (uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16)
	}
	return c.low + binary.LittleEndian.Uint32(c.b[4*i:])
}

// kept is a block that was read.
type kept struct {
	content []byte
	texts   []string // its strings, from 1 on; empty ones are not known yet
}

// bytes is the memory of a block, without its strings.
func (k *kept) bytes() int64 { return int64(cap(k.content) + 16*len(k.texts)) }

// piece is a block taken apart. What its numbers lead to is checked where they are used.
type piece struct {
	rows, scopes, strings int
	columns               [columns]column
}

// decode takes apart a block, which stays where it is.
func (p *piece) decode(content []byte) error {
	if len(content) < blockHeader {
		return ErrCorrupt
	}
	number := func(at int) int { return int(binary.LittleEndian.Uint16(content[at:])) }
	p.rows, p.scopes, p.strings = number(0), number(2), number(4)
	b := content[blockHeader:]
	for i := range p.columns {
		n := p.rows
		switch {
		case i == rowAddress:
			n++
		case i == stringOffset:
			n = p.strings
		case i >= scopeParent:
			n = p.scopes
		}
		if len(b) < columnHeader || b[0] > 4 || len(b)-columnHeader < n*int(b[0]) {
			return ErrCorrupt
		}
		c := &p.columns[i]
		c.width, c.low = int(b[0]), binary.LittleEndian.Uint32(b[1:])
		b = b[columnHeader:]
		c.b, b = b[:n*c.width], b[n*c.width:]
	}
	if len(b) > 0 || p.rows == 0 {
		return ErrCorrupt
	}
	return nil
}

func (p *piece) at(column, i int) uint32 { return p.columns[column].at(i) }

// row finds the row of an address relative to the block.
func (p *piece) row(address uint32) (i int, ok bool) {
	if address >= p.at(rowAddress, p.rows) {
		return 0, false
	}
	low, high := 0, p.rows // the row is in front of high
	for low < high {
		if mid := (low + high) / 2; p.at(rowAddress, mid) <= address {
			low = mid + 1
		} else {
			high = mid
		}
	}
	return low - 1, low > 0
}
