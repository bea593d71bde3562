// SPDX-License-Identifier: Apache-2.0

package dwarfsym

import (
	"cmp"
	"fmt"
	"slices"
)

// scope is a function, or a call of one that was inlined.
type scope struct {
	// entry leads to its name.
	entry uint64
	// parent is the scope that the call is in; -1 of a function.
	parent int32
	// file and line are where the call is.
	file, line uint32
}

// segment is addresses from start up to the next segment: the innermost scope there, -1 for none.
type segment struct {
	start uint64
	scope int32
}

const (
	scopeBytes   = 24
	segmentBytes = 16
	// maxScopes bounds the scopes of one unit.
	maxScopes = 1 << 18
	// maxPerByte bounds the attributes of a unit, by its size: not many have their values with the abbreviations.
	maxPerByte = 4
	// maxDepth bounds how deep entries may nest.
	maxDepth = 1 << 10
)

// functions reads the functions of a unit.
func (t *Table) functions(u *unit, p *parsed) error {
	all, err := u.in.abbreviationsOf(u)
	if err != nil {
		return err
	}
	content, err := u.content.upTo(u.entries, u.end-u.entries)
	if err != nil {
		return err
	}
	c := cursor{b: content, base: u.entries}
	var e entry
	var spans []scopeSpan
	inside := []int32{-1} // the scope at each depth
	for c.at < len(c.b) && len(inside) > 0 {
		at := c.place()
		c.entry(u, all, &e, nil)
		switch {
		case c.bad:
			return fmt.Errorf("entry at %#x: %w", at, errShort)
		case c.attributes > maxAttributes+len(c.b)*maxPerByte:
			return fmt.Errorf("attributes up to the entry at %#x: %w", at, errTooLarge)
		}
		scope := inside[len(inside)-1]
		switch e.tag {
		case 0:
			inside = inside[:len(inside)-1]
			continue
		case tagSubprogram, tagInlined:
			if e.tag == tagSubprogram {
				scope = -1
			}
			if scope, spans, err = t.scope(u, &e, at, scope, p, spans); err != nil {
				return err
			}
		}
		if e.children {
			if len(inside) == maxDepth {
				return fmt.Errorf("entry at %#x: nested too deeply", at)
			}
			inside = append(inside, scope)
		}
	}
	p.segments, p.shapes, p.unit = flatten(spans), all, u
	p.scopes = slices.Clip(p.scopes)
	return nil
}

// scope adds a function or a call, if it has code.
func (t *Table) scope(u *unit, e *entry, at uint64, parent int32, p *parsed, spans []scopeSpan) (int32, []scopeSpan, error) {
	index, before := int32(len(p.scopes)), len(spans)
	err := t.rangesOf(u, e, func(low, high uint64) bool {
		spans = append(spans, scopeSpan{low, high, index})
		return true
	})
	if err != nil || len(spans) == before {
		return parent, spans[:before], err
	}
	if index == maxScopes || len(spans) > maxScopes {
		return parent, spans, errTooLarge
	}
	if v := e.values[origin]; v.class == classRef && u.holds(v.n) && e.values[name].class == classNone && e.values[linkage].class == classNone {
		at = v.n // which others lead to, too
	}
	p.scopes = append(p.scopes, scope{at, parent, uint32(e.values[callFile].n), uint32(e.values[callLine].n)})
	return index, spans, nil
}

// scopeSpan is a range of a scope.
type scopeSpan struct {
	low, high uint64
	scope     int32
}

// flatten makes of ranges, those of inner scopes within those of outer ones, segments that do not
// overlap.
func flatten(spans []scopeSpan) []segment {
	slices.SortFunc(spans, func(a, b scopeSpan) int {
		return cmp.Or(cmp.Compare(a.low, b.low), cmp.Compare(b.high, a.high), cmp.Compare(a.scope, b.scope))
	})
	var out []segment
	var open []scopeSpan // each within the one before
	begin := func(at uint64, scope int32) {
		if n := len(out); n > 0 && out[n-1].start == at {
			out[n-1].scope = scope
			return
		}
		out = append(out, segment{at, scope})
	}
	closeUntil := func(at uint64) {
		for n := len(open); n > 0 && open[n-1].high <= at; n = len(open) {
			end := open[n-1].high
			open = open[:n-1]
			if n > 1 {
				begin(end, open[n-2].scope)
			} else {
				begin(end, -1)
			}
		}
	}
	for _, s := range spans {
		closeUntil(s.low)
		if n := len(open); n > 0 {
			s.high = min(s.high, open[n-1].high)
		}
		open = append(open, s)
		begin(s.low, s.scope)
	}
	closeUntil(^uint64(0))
	return slices.Clip(out)
}

// innermost finds the scope of an address, -1 for none.
func (p *parsed) innermost(addr uint64) int32 {
	i := after(p.segments, addr, func(s segment) uint64 { return s.start }) - 1
	if i < 0 {
		return -1
	}
	return p.segments[i].scope
}
