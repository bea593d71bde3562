// SPDX-License-Identifier: Apache-2.0

// Package dictionary holds what profiles have in common once, by number: strings,
// mappings, functions, locations, stacks and label sets. The head of the store,
// each of its blocks and each result of a query have a dictionary, and a
// Translation carries numbers of one into those of another.
package dictionary

import "github.com/fleetprof/fleetprof/server/columns"

// Dictionary gives entries by their numbers. String 0 is the empty one, stack 0 is
// the empty one. What is in it never changes; a copy made while an Interner goes on
// adding to it keeps what was there.
type Dictionary struct {
	Strings   []string
	Mappings  []columns.Mapping
	Functions []columns.Function
	Locations []Location
	Stacks    []Node
	LabelSets LabelSets
}

// Location is a position in a program with the frames it stands for.
type Location struct {
	Address uint64
	// Mapping is the number of a mapping plus 1, or 0 for none.
	Mapping uint32
	Folded  bool
	// Lines has the innermost inlined call first.
	Lines []columns.Line
}

// Node is the innermost frame of a stack; Parent is the stack that called it. Stacks
// that share their outer frames so share their nodes.
type Node struct{ Parent, Location uint32 }

// Bits are the two numbers.
func (n Node) Bits() uint64 { return uint64(n.Parent)<<32 | uint64(n.Location) }

// Of shows the entries of a profile as a dictionary. Its stacks are not among them:
// see Translation.Frames.
func Of(p *columns.Profile) *Dictionary {
	d := &Dictionary{
		Strings: p.Strings, Mappings: p.Mappings, Functions: p.Functions,
		Locations: make([]Location, len(p.Locations)),
	}
	for i, l := range p.Locations {
		d.Locations[i] = Location{l.Address, l.Mapping, l.Folded, p.LocationLines(i)}
	}
	for i := range p.LabelSets() {
		d.LabelSets.Add(nil, p.Labels(i)...)
	}
	return d
}

// Label gives the value of a text label of a set, or the empty string.
func (d *Dictionary) Label(set uint32, name string) string {
	for _, n := range d.LabelSets.Numbers(set) {
		l := d.LabelSets.labels[n]
		if l.Text != 0 && d.Strings[l.Key] == name {
			return d.Strings[l.Text]
		}
	}
	return ""
}

// Size is about how many bytes of memory d holds.
func (d *Dictionary) Size() int64 {
	size := 40*len(d.Mappings) + 24*len(d.Functions) + 48*len(d.Locations) + 8*len(d.Stacks)
	for _, s := range d.Strings {
		size += len(s) + 16
	}
	for _, l := range d.Locations {
		size += 24 * len(l.Lines)
	}
	return int64(size) + d.LabelSets.size()
}
