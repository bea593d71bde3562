// SPDX-License-Identifier: Apache-2.0

package dictionary_test

import (
	"fmt"
	"testing"

	"github.com/fleetprof/fleetprof/server/columns"
	"github.com/fleetprof/fleetprof/server/dictionary"
)

// Where only names are taken over, locations are one that a flame graph shows alike, and no others.
func TestNamesOnly(t *testing.T) {
	from := &dictionary.Dictionary{
		Strings:  []string{"", "main", "work", "_Z4work", "a.c", "b.c", "/bin/a", "/bin/b"},
		Mappings: []columns.Mapping{{Start: 0x1000, File: 6}, {Start: 0x1000, File: 7}},
		Functions: []columns.Function{
			{Name: 1, SystemName: 1, File: 4}, {Name: 1, SystemName: 1, File: 5, StartLine: 3}, // main in two files
			{Name: 2, SystemName: 3, File: 4}, {SystemName: 3, File: 4}, // work, and what has no other name
			{File: 4}, // nameless
		},
	}
	at := func(mapping uint32, address uint64, functions ...uint32) dictionary.Location {
		l := dictionary.Location{Mapping: mapping, Address: address}
		for _, f := range functions {
			l.Lines = append(l.Lines, columns.Line{Function: f, Line: int64(address & 0xff), Column: 7})
		}
		return l
	}
	from.Locations = []dictionary.Location{
		at(1, 0x1010, 0), at(1, 0x1020, 0), at(1, 0x1030, 1), // main of a
		at(2, 0x1010, 0),                         // main of b
		at(1, 0x1040, 2, 0), at(1, 0x1050, 2, 0), // work in main
		at(1, 0x1060, 0, 2),                // main in work
		at(1, 0x1070, 3),                   // _Z4work
		at(1, 0x1080, 4), at(1, 0x1090, 4), // nameless
		at(1, 0x10a0, 2, 4), at(1, 0x10b0, 2, 4), // work in what is nameless
		at(1, 0x10c0), at(1, 0x10d0), // nothing is known
	}
	from.Locations[1].Folded = true
	to := dictionary.New()
	nodes := dictionary.AllNodes{{}}
	for i := range from.Locations {
		nodes = append(nodes, dictionary.Node{Location: uint32(i)})
	}
	translation := to.TranslateStacks(dictionary.AllSymbols{from}, nodes).WithNames()
	var got []uint32
	for i := range from.Locations {
		stack := translation.Stack(uint32(i) + 1)
		got = append(got, to.Stacks[stack].Location)
	}
	if want := "[0 0 0 1 2 2 3 4 5 6 7 8 9 10]"; fmt.Sprint(got) != want {
		t.Errorf("locations are %v, want %s", got, want)
	}
	names := func(location uint32) (all []string) {
		for _, l := range to.Locations[location].Lines {
			all = append(all, to.Strings[to.Functions[l.Function].Name])
		}
		return all
	}
	for location, want := range map[uint32]string{0: "[main]", 1: "[main]", 2: "[work main]", 3: "[main work]", 4: "[_Z4work]", 5: "[]", 7: "[work ]", 9: "[]"} {
		if have := names(location); fmt.Sprint(have) != want {
			t.Errorf("location %d is %q, want %s", location, have, want)
		}
	}
	if a := to.Locations[5].Address; a != 0x1080 {
		t.Errorf("what is nameless is at %#x", a)
	}
}
