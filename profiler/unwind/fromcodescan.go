// SPDX-License-Identifier: Apache-2.0

package unwind

import (
	"cmp"
	"encoding/binary"
	"maps"
	"math"
	"slices"
)

// found takes note of the start of a function, if it lies in a gap.
func (c *fromCode) found(addr uint64, certain bool) *bareFunction {
	g := c.gap(addr)
	if g == nil {
		return nil
	}
	f := c.functions[addr]
	if f == nil {
		if c.functionsLeft == 0 {
			return nil
		}
		c.functionsLeft--
		f = &bareFunction{start: addr, number: uint16(len(c.functions)%math.MaxUint16) + 1}
		c.functions[addr] = f
		if !certain {
			c.perhaps = append(c.perhaps, f)
		}
	}
	if certain && !f.certain {
		f.certain = true
		c.certain = append(c.certain, f)
	}
	return f
}

// scan goes through all functions, finds those that they call, and which of them
// return. What follows a call of one that does not is not reached by it. If it is strict,
// functions that are not known do not return.
func (c *fromCode) scan(strict bool) {
	c.strict = strict
	for _, f := range c.sorted() {
		f.scanned, f.returns, f.waiting = false, false, nil
		if f.certain {
			c.certain = append(c.certain, f)
		} else {
			c.perhaps = append(c.perhaps, f)
		}
	}
	for f := c.next(); f != nil; f = c.next() {
		if !f.scanned {
			f.scanned = true
			c.scanRun(f, f.start)
		}
		for last := len(c.scanning) - 1; last >= 0; last = len(c.scanning) - 1 {
			s := c.scanning[last]
			c.scanning = c.scanning[:last]
			c.scanRun(s.f, s.addr)
		}
	}
	for _, f := range c.functions {
		f.surely = f.surely || strict && f.returns
	}
	for _, g := range c.gaps {
		clear(g.at)
	}
}

// next takes a function that is to be scanned, or returns nil.
func (c *fromCode) next() (f *bareFunction) {
	if len(c.certain) > 0 {
		f, c.certain = c.certain[0], c.certain[1:]
	} else if len(c.perhaps) > 0 {
		f, c.perhaps = c.perhaps[0], c.perhaps[1:]
	}
	return f
}

// sorted returns all functions, certain ones first.
func (c *fromCode) sorted() []*bareFunction {
	return slices.SortedFunc(maps.Values(c.functions), func(a, b *bareFunction) int {
		if a.certain != b.certain {
			if a.certain {
				return -1
			}
			return 1
		}
		return cmp.Compare(a.start, b.start)
	})
}

// scanRun scans instructions in a row. at holds for now which function has come by.
func (c *fromCode) scanRun(f *bareFunction, addr uint64) {
	var t trail
	for {
		g := c.gap(addr)
		if g == nil {
			c.returns(f) // described elsewhere, or damaged
			return
		}
		if other := c.functions[addr]; other != nil && other != f && other.certain {
			c.wait(other, suspended{f, 0})
			return
		}
		if seen := &g.at[addr-g.start]; *seen == 0 {
			*seen = f.number
		} else {
			if *seen != f.number {
				c.returns(f)
			}
			return
		}
		in, ok := c.decode(g.text[addr-g.start:], addr)
		if !ok {
			c.returns(f)
			return
		}
		if in.mention != 0 {
			c.found(in.mention, false)
		}
		next := addr + uint64(in.size)
		t.follow(&in)
		if in.holds != 0 {
			if f.addresses == nil {
				f.addresses = make(map[uint8]uint64)
			}
			f.addresses[in.holds] = in.mention
		}
		switch in.flow {
		case flowReturn:
			c.returns(f)
			return
		case flowJump:
			next = in.target
		case flowBranch:
			c.scanning = append(c.scanning, suspended{f, in.target})
		case flowIndirect:
			c.indirect(f, addr, t)
			return
		case flowCall:
			if callee := c.found(in.target, true); callee != nil {
				c.wait(callee, suspended{f, next})
				return
			}
			if c.strict {
				return
			}
		case flowStop:
			return
		}
		addr = next
	}
}

// wait goes on with s once f returns.
func (c *fromCode) wait(f *bareFunction, s suspended) {
	switch {
	case !f.returns:
		f.waiting = append(f.waiting, s)
	case s.addr == 0:
		c.returns(s.f)
	default:
		c.scanning = append(c.scanning, s)
	}
}

// returns takes note that a function returns, and all that return because of it.
func (c *fromCode) returns(f *bareFunction) {
	for todo := []*bareFunction{f}; len(todo) > 0; {
		f, todo = todo[len(todo)-1], todo[:len(todo)-1]
		if f.returns || f.never {
			continue
		}
		f.returns = true
		for _, s := range f.waiting {
			if s.addr == 0 {
				todo = append(todo, s.f)
			} else {
				c.scanning = append(c.scanning, s)
			}
		}
		f.waiting = nil
	}
}

// indirect finds where a jump at addr leads that goes by a table.
func (c *fromCode) indirect(f *bareFunction, addr uint64, t trail) {
	if t.table == 0 && t.indexes != 0 {
		t.table = f.addresses[t.indexes]
	}
	targets := c.tables[addr]
	if targets == nil {
		targets = c.readTable(t)
	}
	if targets == nil {
		c.returns(f) // another function that it ends with
		return
	}
	c.tables[addr] = targets
	for _, target := range targets {
		c.scanning = append(c.scanning, suspended{f, target})
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
	held    [maxHeld]uint64
}

func (t *trail) follow(in *instruction) {
	if in.limit != 0 {
		t.limit = in.limit
	}
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

// maxHeld is more than the number of a general register plus 1.
const maxHeld = 32

// readTable reads a table of jumps: addresses, or what to add to the table's own. It
// returns nil if there is none.
func (c *fromCode) readTable(t trail) (targets []uint64) {
	size := uint64(4)
	if t.absolute {
		size = 8
	}
	b := make([]byte, uint64(t.guard)*size)
	if t.guard == 0 || t.table == 0 || len(b) > c.targetsLeft*int(size) || c.file.ReadAddress(b, t.table) != nil {
		return nil
	}
	for ; len(b) > 0; b = b[size:] {
		target := t.table + uint64(int32(binary.LittleEndian.Uint32(b)))
		if t.absolute {
			target = binary.LittleEndian.Uint64(b)
		}
		if c.gap(target) == nil {
			return nil
		}
		targets = append(targets, target)
	}
	c.targetsLeft -= len(targets)
	return targets
}
