// SPDX-License-Identifier: Apache-2.0

package unwind

import (
	"cmp"
	"maps"
	"math"
	"slices"
)

// found takes note of the start of a function, if it lies in a gap.
func (c *fromCode) found(addr uint64, certain bool) *bareFunction {
	g := c.gap(addr)
	if g == nil || c.link && addr%4 != 0 {
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
			c.scanRun(suspended{f: f, addr: f.start})
		}
		for last := len(c.scanning) - 1; last >= 0; last = len(c.scanning) - 1 {
			s := c.scanning[last]
			c.scanning = c.scanning[:last]
			c.scanRun(s)
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
func (c *fromCode) scanRun(from suspended) {
	f, addr, t := from.f, from.addr, trail{guard: from.guard}
	for {
		g := c.gap(addr)
		if g == nil {
			c.returns(f) // described elsewhere, or damaged
			return
		}
		if other := c.functions[addr]; other != nil && other != f && other.certain {
			c.wait(other, suspended{f: f})
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
		t.follow(&in)
		if in.mention != 0 && !in.page {
			c.found(in.mention, false)
		}
		next := addr + uint64(in.size)
		if in.holds != 0 && !c.link {
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
			to := suspended{f: f, addr: in.target}
			if in.below {
				to.guard = t.limit
			}
			c.scanning = append(c.scanning, to)
		case flowIndirect:
			c.indirect(f, addr, t)
			return
		case flowCall:
			if callee := c.found(in.target, true); callee != nil {
				callee.called = true
				c.wait(callee, suspended{f: f, addr: next})
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
