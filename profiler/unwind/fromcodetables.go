// SPDX-License-Identifier: Apache-2.0

package unwind

import (
	"encoding/binary"
	"math/bits"
)

// indirect finds where a jump at addr leads that goes by a table.
func (c *fromCode) indirect(f *bareFunction, addr uint64, t trail) {
	if t.table == 0 && t.indexes != 0 {
		t.table = f.addresses[t.indexes]
	}
	targets := c.tables[addr]
	if targets == nil {
		targets = t.known
	}
	if targets == nil {
		targets = c.readTable(t)
	}
	if targets == nil {
		c.returns(f) // another function that it ends with
		return
	}
	c.tables[addr] = targets
	for _, target := range targets {
		c.scanning = append(c.scanning, suspended{f: f, addr: target})
	}
}

// trail is what the last instructions tell of a table of jumps: a number was compared
// with a constant, and only what is not above it went on; an address was computed.
type trail struct {
	limit, guard uint32
	table        uint64
	absolute     bool
	// indexes is the register that holds the table, if that was not set of late.
	indexes uint8
	// held is what registers were set to, by their numbers plus 1.
	held [maxHeld]uint64
	// known is where an indirect jump goes that always goes there.
	known []uint64
	armTrail
}

// armTrail is what tells of tables of jumps on arm64: an entry is read, and added to an
// address.
type armTrail struct {
	entry tableEntry
	sum   sum
	// origin is the address that entries are added to, result the register with the sum.
	origin uint64
	result uint8
}

// follow adds an instruction. It completes the address that one mentions.
func (t *trail) follow(in *instruction) {
	if in.limit != 0 {
		t.limit = in.limit
	}
	t.followARM64(in)
	if in.holds != 0 {
		t.held[in.holds] = in.mention
	}
	switch {
	case in.flow == flowBranch && in.above:
		t.guard = t.limit
	case in.flow == flowCall:
		*t = trail{}
	case in.flow == flowIndirect && in.table != 0:
		t.table, t.absolute = in.table, true
	case in.indexes != 0:
		t.indexes, t.table = in.indexes, t.held[in.indexes]
	}
}

func (t *trail) followARM64(in *instruction) {
	if in.from != 0 && t.held[in.from] != 0 {
		in.mention = t.held[in.from] + uint64(int64(in.n))
	}
	table, origin := t.held[in.entry.table], t.held[in.sum.origin]
	sums := in.sum.to != 0 && in.sum.offset == t.entry.to
	for written := in.wrote; written != 0; written &= written - 1 {
		t.forget(uint8(bits.TrailingZeros32(written)) + 1)
	}
	switch {
	case in.entry.to != 0:
		t.entry, t.table = in.entry, table
	case sums:
		t.sum, t.origin, t.result = in.sum, origin, in.sum.to
	case in.through != 0 && t.held[in.through] != 0:
		t.known = []uint64{t.held[in.through]}
	case in.through != 0 && in.through != t.result:
		t.result = 0
	}
}

// forget takes note that a register is overwritten.
func (t *trail) forget(register uint8) {
	t.held[register] = 0
	if register == t.entry.to {
		t.entry.to = 0
	}
	if register == t.result {
		t.result = 0
	}
}

// maxHeld is more than the number of a general register plus 1.
const maxHeld = 33

// readTable reads a table of jumps: addresses, or what to add to the table's own or to
// another one. It returns nil if there is none.
func (c *fromCode) readTable(t trail) (targets []uint64) {
	size := uint64(4)
	switch {
	case t.absolute:
		size = 8
	case c.link:
		size = uint64(t.entry.width)
	}
	b := make([]byte, uint64(t.guard)*size)
	if t.guard == 0 || t.table == 0 || len(b) > c.targetsLeft*int(size) || c.file.ReadAddress(b, t.table) != nil {
		return nil
	}
	if c.link && (t.result == 0 || t.origin == 0) {
		return nil
	}
	for ; len(b) > 0; b = b[size:] {
		var target uint64
		switch {
		case t.absolute:
			target = binary.LittleEndian.Uint64(b)
		case c.link:
			target = t.target(b)
		default:
			target = t.table + uint64(int32(binary.LittleEndian.Uint32(b)))
		}
		if c.gap(target) == nil || c.link && target%4 != 0 {
			return nil
		}
		targets = append(targets, target)
	}
	c.targetsLeft -= len(targets)
	return targets
}

// target is where the first entry leads on arm64.
func (t *armTrail) target(entries []byte) uint64 {
	var value uint64
	switch t.entry.width {
	case 1:
		value = uint64(entries[0])
	case 2:
		value = uint64(binary.LittleEndian.Uint16(entries))
	case 4:
		value = uint64(binary.LittleEndian.Uint32(entries))
	default:
		value = binary.LittleEndian.Uint64(entries)
	}
	if t.entry.signed || t.sum.signed {
		unused := 64 - 8*t.entry.width
		value = uint64(int64(value<<unused) >> unused)
	}
	return t.origin + value<<t.sum.shift
}
