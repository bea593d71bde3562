// SPDX-License-Identifier: Apache-2.0

package block_test

import (
	"fmt"
	"testing"

	"github.com/fleetprof/fleetprof/server/columns"
	"github.com/fleetprof/fleetprof/server/dictionary"
	"github.com/fleetprof/fleetprof/server/profiletest"
	"github.com/fleetprof/fleetprof/server/store/block"
)

// named is services whose locations have names, some of them the same, some none; every third location
// is folded, and some have no mapping or no line, or several.
type named struct{ services }

func (p named) Symbols() (dictionary.Symbols, error) {
	d := &dictionary.Dictionary{
		Strings: []string{"", "/bin/a", "/lib/b.so", "abc", "same"},
		Mappings: []columns.Mapping{
			{Start: 1, Limit: 1 << 40, File: 1, BuildID: 3},
			{Start: 1 << 40, Limit: 1 << 41, Offset: 4096, File: 2, Resolved: columns.HasFunctions},
		},
	}
	for i := range uint32(1000) {
		d.Strings = append(d.Strings, fmt.Sprint("function", i))
		name := uint32(len(d.Strings) - 1)
		f := columns.Function{Name: name, SystemName: name, File: 1 + i%2, StartLine: int64(i)}
		switch i % 4 {
		case 1:
			f.SystemName = 4
		case 2:
			f.SystemName, f.File = 0, 0
		}
		d.Functions = append(d.Functions, f)
		l := dictionary.Location{Address: p.first + uint64(i), Mapping: i % 3, Folded: i%3 == 1}
		for j := range i % 3 {
			l.Lines = append(l.Lines, columns.Line{Function: (i + j) % (i + 1), Line: int64(i), Column: int64(j)})
		}
		d.Locations = append(d.Locations, l)
	}
	return dictionary.AllSymbols{Dictionary: d}, nil
}

// described says all of each location by its address.
func described(t *testing.T, d *dictionary.Dictionary) map[uint64]string {
	t.Helper()
	all := make(map[uint64]string, len(d.Locations))
	for _, l := range d.Locations {
		says := fmt.Sprint(l.Folded)
		if l.Mapping != 0 {
			m := d.Mappings[l.Mapping-1]
			says += fmt.Sprint(m.Start, m.Limit, m.Offset, m.Resolved, d.Strings[m.File], d.Strings[m.BuildID])
		}
		for _, line := range l.Lines {
			f := d.Functions[line.Function]
			says += fmt.Sprintf(" %d:%d %q %q %q %d", line.Line, line.Column, d.Strings[f.Name], d.Strings[f.SystemName], d.Strings[f.File], f.StartLine)
		}
		if _, twice := all[l.Address]; twice {
			t.Errorf("%d is there twice", l.Address)
		}
		all[l.Address] = says
	}
	return all
}

// symbols gives all that stacks of a part refer to.
func symbols(t *testing.T, p block.Part) *dictionary.Dictionary {
	t.Helper()
	pages, err := p.Symbols()
	if err != nil {
		t.Fatal(err)
	}
	d, err := profiletest.Symbols(pages)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// What stacks refer to is what it was, of one part and of several.
func TestSymbols(t *testing.T) {
	part := func(first uint64) named {
		return named{services{services: 2, hosts: 1, stacks: 1000, name: "s", first: first}}
	}
	many := []block.Part{} // of which six have symbols of several pages, and all too many for fingerprints
	for i := range uint64(70) {
		many = append(many, part(i*2000))
	}
	for _, parts := range [][]block.Part{{part(0)}, {part(0), part(500_000)}, many[:6], many} {
		want := make(map[uint64]string)
		for _, p := range parts {
			for address, says := range described(t, symbols(t, p)) {
				want[address] = says
			}
		}
		b := write(t, parts...)
		if b.Meta.Fingerprints != (len(parts) < len(many)) {
			t.Errorf("%d parts: fingerprints are %v", len(parts), b.Meta.Fingerprints)
		}
		got := described(t, symbols(t, b))
		if len(got) != len(want) || len(got) != 1000*len(parts) {
			t.Errorf("%d locations, want %d", len(got), len(want))
		}
		for address, says := range want {
			if got[address] != says {
				t.Errorf("location %d is %q, want %q", address, got[address], says)
			}
		}
	}
}
