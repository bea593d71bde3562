// SPDX-License-Identifier: Apache-2.0

// Package codemap knows which piece of generated code lies where in the memory of a process. Such
// code is put where other code was: what is added replaces all that it overlaps.
package codemap

import (
	"errors"
	"slices"
	"sort"
)

// ErrTooLarge reports a file that tells of more code than may be kept, or read.
var ErrTooLarge = errors.New("too much code")

// Code is one piece of code: addresses [Start, Start+Size).
type Code struct {
	Start uint64
	Size  uint32
	// Length and Offset are the caller's: where a file describes the code.
	Length uint32
	Offset int64
}

func (c *Code) limit() uint64 { return c.Start + uint64(c.Size) }

const (
	codeBytes = 24
	// blockLength is how many pieces are moved at most to put in another.
	blockLength = 256
	// blockBytes is the memory of a block and of its place in Map.
	blockBytes = blockLength*codeBytes + 24
)

// Map holds pieces of code without overlaps. The zero value is empty. Not safe for concurrent use.
type Map struct {
	// blocks are sorted, as are the pieces in each. None is empty, and each has the capacity
	// blockLength.
	blocks [][]Code
}

// Bytes is the memory that the map holds.
func (m *Map) Bytes() int64 { return int64(len(m.blocks)) * blockBytes }

// Find returns the code at an address.
func (m *Map) Find(addr uint64) (c Code, ok bool) {
	b := m.block(addr)
	if b == len(m.blocks) {
		return Code{}, false
	}
	c = m.blocks[b][piece(m.blocks[b], addr)]
	return c, c.Start <= addr
}

// Add puts in a piece of code, and drops those that it overlaps. A piece without size, or beyond
// the end of all addresses, is none.
func (m *Map) Add(c Code) {
	if c.limit() <= c.Start {
		return
	}
	m.Remove(c.Start, c.limit())
	b := m.block(c.Start)
	switch {
	case b < len(m.blocks):
	case b > 0 && len(m.blocks[b-1]) < blockLength:
		b-- // behind all others
	default:
		m.blocks = append(m.blocks, make([]Code, 0, blockLength))
	}
	if len(m.blocks[b]) == blockLength {
		const half = blockLength / 2
		upper := append(make([]Code, 0, blockLength), m.blocks[b][half:]...)
		m.blocks[b] = m.blocks[b][:half]
		m.blocks = slices.Insert(m.blocks, b+1, upper)
		if upper[0].Start < c.Start {
			b++
		}
	}
	m.blocks[b] = slices.Insert(m.blocks[b], piece(m.blocks[b], c.Start), c)
}

// Remove drops the pieces that have a part in [start, limit).
func (m *Map) Remove(start, limit uint64) {
	first := m.block(start)
	end := first
	for ; end < len(m.blocks) && m.blocks[end][0].Start < limit; end++ {
		block := m.blocks[end]
		from := piece(block, start)
		to := from + sort.Search(len(block)-from, func(i int) bool { return block[from+i].Start >= limit })
		m.blocks[end] = slices.Delete(block, from, to)
		if to < len(block) {
			end++
			break
		}
	}
	kept := slices.DeleteFunc(m.blocks[first:end:end], func(b []Code) bool { return len(b) == 0 })
	m.blocks = slices.Delete(m.blocks, first+len(kept), end)
}

// block is the number of the first block with a piece that ends behind an address.
func (m *Map) block(addr uint64) int {
	return sort.Search(len(m.blocks), func(i int) bool {
		last := m.blocks[i][len(m.blocks[i])-1]
		return last.limit() > addr
	})
}

// piece is the number of the first piece in a block that ends behind an address.
func piece(block []Code, addr uint64) int {
	return sort.Search(len(block), func(i int) bool { return block[i].limit() > addr })
}
