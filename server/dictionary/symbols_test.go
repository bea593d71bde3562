// SPDX-License-Identifier: Apache-2.0

package dictionary_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/fleetprof/fleetprof/server/columns"
	"github.com/fleetprof/fleetprof/server/dictionary"
)

// whole says everything there is to say about a location.
func whole() *dictionary.Dictionary {
	return &dictionary.Dictionary{
		Strings:   []string{"", "/bin/a", "abcd", "main", "_main", "a.c", "inline"},
		Mappings:  []columns.Mapping{{Start: 1, Limit: 2, Offset: 3, File: 1, BuildID: 2, Resolved: columns.HasFunctions}},
		Functions: []columns.Function{{Name: 3, SystemName: 4, File: 5, StartLine: 6}, {Name: 6}},
		Locations: []dictionary.Location{{Address: 7, Mapping: 1, Lines: []columns.Line{{Function: 0, Line: 8, Column: 9}, {Function: 1}}}},
	}
}

// Locations that differ in anything have other fingerprints, those that differ in numbers only have not.
func TestFingerprint(t *testing.T) {
	found := map[dictionary.Fingerprint]int{whole().Fingerprint(0): -1}
	for i, change := range []func(d *dictionary.Dictionary){
		func(d *dictionary.Dictionary) { d.Strings[1] = "/bin/b" },
		func(d *dictionary.Dictionary) { d.Strings[2] = "abce" },
		func(d *dictionary.Dictionary) { d.Strings[3] = "mein" },
		func(d *dictionary.Dictionary) { d.Strings[4] = "" },
		func(d *dictionary.Dictionary) { d.Strings[5] = "a.cc" },
		func(d *dictionary.Dictionary) { d.Strings[3], d.Strings[4] = "main_", "main" },
		func(d *dictionary.Dictionary) { d.Mappings[0].Start++ },
		func(d *dictionary.Dictionary) { d.Mappings[0].Limit++ },
		func(d *dictionary.Dictionary) { d.Mappings[0].Offset++ },
		func(d *dictionary.Dictionary) { d.Mappings[0].Resolved = 0 },
		func(d *dictionary.Dictionary) { d.Functions[0].StartLine++ },
		func(d *dictionary.Dictionary) { d.Locations[0].Address++ },
		func(d *dictionary.Dictionary) { d.Locations[0].Mapping = 0 },
		func(d *dictionary.Dictionary) { d.Locations[0].Folded = true },
		func(d *dictionary.Dictionary) { d.Locations[0].Lines[0].Line++ },
		func(d *dictionary.Dictionary) { d.Locations[0].Lines[0].Column++ },
		func(d *dictionary.Dictionary) { d.Locations[0].Lines[1].Function = 0 },
		func(d *dictionary.Dictionary) { slices.Reverse(d.Locations[0].Lines) },
		func(d *dictionary.Dictionary) { d.Locations[0].Lines = d.Locations[0].Lines[:1] },
		func(d *dictionary.Dictionary) { d.Locations[0].Lines = nil },
	} {
		d := whole()
		change(d)
		print := d.Fingerprint(0)
		if other, ok := found[print]; ok {
			t.Errorf("changes %d and %d give one fingerprint", other, i)
		}
		found[print] = i
	}
	d := whole()
	d.Strings = append(d.Strings, "/bin/a")
	d.Mappings = append([]columns.Mapping{{}}, d.Mappings...)
	d.Mappings[1].File, d.Locations[0].Mapping = uint32(len(d.Strings)-1), 2
	if d.Fingerprint(0) != whole().Fingerprint(0) {
		t.Error("other numbers give another fingerprint")
	}
}

// paged is a dictionary by pages of ten locations; it counts how often each is read.
type paged struct {
	*dictionary.Dictionary
	read map[int]int
	bad  error // of reading fingerprints
}

func (p paged) Len() int     { return len(p.Locations) }
func (p paged) PageLen() int { return 10 }

func (p paged) Page(i int) (*dictionary.Dictionary, error) {
	p.read[i]++
	page := *p.Dictionary
	page.Locations = p.Locations[10*i : min(p.Len(), 10*(i+1))]
	return &page, nil
}

func (p paged) Fingerprints() (all []dictionary.Fingerprint, err error) {
	for i := range p.Locations {
		all = append(all, p.Fingerprint(uint32(i)))
	}
	return all, p.bad
}

// numbered has so many locations from an address on, each with a function of its own, and a stack of each.
func numbered(first, n uint64) paged {
	d := &dictionary.Dictionary{Strings: []string{""}, Stacks: []dictionary.Node{{}}}
	for i := range uint32(n) {
		address := first + uint64(i)
		d.Strings = append(d.Strings, fmt.Sprint("function", address))
		d.Functions = append(d.Functions, columns.Function{Name: 1 + i})
		d.Locations = append(d.Locations, dictionary.Location{Address: address, Lines: []columns.Line{{Function: i}}})
		d.Stacks = append(d.Stacks, dictionary.Node{Location: i})
	}
	rand.Shuffle(int(n), func(i, j int) {
		d.Locations[i], d.Locations[j] = d.Locations[j], d.Locations[i]
	})
	return paged{Dictionary: d, read: map[int]int{}}
}

// Of symbols only pages are read that say something new, and what stacks become is the same.
func TestKnownSymbolsAreNotRead(t *testing.T) {
	to := dictionary.New()
	for _, c := range []struct {
		from  paged
		pages int // at most
	}{
		{numbered(0, 1000), 100},
		{numbered(0, 1000), 0},
		{numbered(200, 300), 0},
		{numbered(999, 5), 1},
	} {
		translation := to.TranslateStacks(c.from, dictionary.AllNodes(c.from.Stacks))
		for i := range c.from.Locations {
			stack := translation.Stack(uint32(i) + 1)
			l := to.Locations[to.Stacks[stack].Location]
			name := to.Strings[to.Functions[l.Lines[0].Function].Name]
			want := c.from.Locations[i]
			if l.Address != want.Address || name != c.from.Strings[c.from.Functions[want.Lines[0].Function].Name] {
				t.Fatalf("location %d has become %d %q", want.Address, l.Address, name)
			}
		}
		if len(c.from.read) > c.pages || translation.Err() != nil {
			t.Errorf("%d pages are read, want at most %d; %v", len(c.from.read), c.pages, translation.Err())
		}
	}
	if len(to.Locations) != 1004 {
		t.Errorf("%d locations, want 1004", len(to.Locations))
	}
}

// Fingerprints that cannot be read are an error.
func TestFingerprintsUnreadable(t *testing.T) {
	from := numbered(0, 10)
	from.bad = errors.New("bad")
	translation := dictionary.New().TranslateStacks(from, dictionary.AllNodes(from.Stacks))
	if got := translation.Stack(3); got != 0 || !errors.Is(translation.Err(), from.bad) {
		t.Errorf("stack %d, error %v", got, translation.Err())
	}
	if err := dictionary.New().TranslateStacks(from, dictionary.AllNodes(nil)).Locations(); !errors.Is(err, from.bad) {
		t.Errorf("all locations give %v", err)
	}
}
