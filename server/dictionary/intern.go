// SPDX-License-Identifier: Apache-2.0

package dictionary

import (
	"encoding/binary"
	"slices"
	"strings"

	"github.com/fleetprof/fleetprof/server/columns"
)

// Interner is a dictionary that grows: it numbers entries in the order of first
// sight. It is not safe for concurrent use; copies of its Dictionary are.
type Interner struct {
	Dictionary
	// Bytes is about how much memory it takes.
	Bytes int64

	strings   map[string]uint32
	mappings  map[columns.Mapping]uint32
	functions map[columns.Function]uint32
	locations map[string]uint32 // by all that they say
	// fingerprints has the locations of StackTranslations.
	fingerprints map[Fingerprint]uint32
	stacks       Numbers[Node]
	labels       map[columns.Label]uint32
	labelSets    map[string]uint32 // by the numbers of their labels
	key          []byte
}

// mapOverhead is about what an entry of a map takes besides key and value.
const mapOverhead = 24

// New makes a dictionary with the empty string and the empty stack in it.
func New() *Interner {
	d := &Interner{
		strings:      map[string]uint32{},
		mappings:     map[columns.Mapping]uint32{},
		functions:    map[columns.Function]uint32{},
		locations:    map[string]uint32{},
		fingerprints: map[Fingerprint]uint32{},
		labels:       map[columns.Label]uint32{},
		labelSets:    map[string]uint32{},
	}
	d.String("")
	d.Stacks = append(d.Stacks, Node{})
	return d
}

// String gives the number of a string, of which it keeps a copy: it may be a part of a larger one.
func (d *Interner) String(s string) uint32 {
	id, ok := d.strings[s]
	if !ok {
		s = strings.Clone(s)
		id = uint32(len(d.Strings))
		d.strings[s] = id
		d.Strings = append(d.Strings, s)
		d.Bytes += int64(len(s)) + 2*16 + mapOverhead
	}
	return id
}

// Find gives the number of a string if it is there.
func (d *Interner) Find(s string) (id uint32, ok bool) {
	id, ok = d.strings[s]
	return id, ok
}

// Child gives the number of the stack that has a location called by parent.
func (d *Interner) Child(parent, location uint32) uint32 {
	n := Node{parent, location}
	id, slot, ok := d.stacks.Find(d.Stacks, n)
	if !ok {
		id = uint32(len(d.Stacks))
		d.Stacks = append(d.Stacks, n)
		d.stacks.Put(d.Stacks, slot)
		d.Bytes += 10 + numberBytes // with what append takes in advance
	}
	return id
}

// Reserve makes room for so many stacks, which then need not be moved as they grow more.
func (d *Interner) Reserve(stacks int) {
	d.Stacks = slices.Grow(d.Stacks, stacks)
}

func (d *Interner) mapping(m columns.Mapping) uint32 {
	id, ok := d.mappings[m]
	if !ok {
		id = uint32(len(d.Mappings))
		d.mappings[m] = id
		d.Mappings = append(d.Mappings, m)
		d.Bytes += 2*40 + mapOverhead
	}
	return id
}

// Function gives the number of a function; its strings are numbers of d.
func (d *Interner) Function(f columns.Function) uint32 {
	id, ok := d.functions[f]
	if !ok {
		id = uint32(len(d.Functions))
		d.functions[f] = id
		d.Functions = append(d.Functions, f)
		d.Bytes += 2*24 + mapOverhead
	}
	return id
}

// location gives the number of l, whose lines are copied if it is new.
func (d *Interner) location(l Location) uint32 {
	key := binary.AppendUvarint(d.key[:0], l.Address)
	key = binary.AppendUvarint(key, uint64(l.Mapping))
	key = append(key, 0)
	if l.Folded {
		key[len(key)-1] = 1
	}
	for _, line := range l.Lines {
		key = binary.AppendUvarint(key, uint64(line.Function))
		key = binary.AppendVarint(key, line.Line)
		key = binary.AppendVarint(key, line.Column)
	}
	d.key = key
	id, ok := d.locations[string(key)]
	if !ok {
		id = uint32(len(d.Locations))
		d.locations[string(key)] = id
		l.Lines = slices.Clone(l.Lines)
		d.Locations = append(d.Locations, l)
		d.Bytes += 48 + 16 + int64(len(key)) + 24*int64(len(l.Lines)) + mapOverhead
	}
	return id
}

// fingerprint keeps which location it is of.
func (d *Interner) fingerprint(f Fingerprint, location uint32) {
	d.fingerprints[f] = location
	d.Bytes += 16 + 4 + mapOverhead
}

// label gives the number of a label.
func (d *Interner) label(l columns.Label) uint32 {
	id, ok := d.labels[l]
	if !ok {
		id = d.LabelSets.Label(l)
		d.labels[l] = id
		d.Bytes += 2*24 + mapOverhead
	}
	return id
}

// labelSet gives the number of a set of labels by their numbers, which it sorts.
func (d *Interner) labelSet(set []uint32) uint32 {
	slices.Sort(set)
	key := d.key[:0]
	for _, n := range set {
		key = binary.AppendUvarint(key, uint64(n))
	}
	d.key = key
	id, ok := d.labelSets[string(key)]
	if !ok {
		id = uint32(d.LabelSets.Len())
		d.labelSets[string(key)] = id
		d.LabelSets.AddNumbered(set...)
		d.Bytes += int64(len(key)) + 24 + 5*int64(len(set)) + mapOverhead
	}
	return id
}

// SetLines gives a location that has none its lines, whose functions are numbers of d. It stays known
// as the one without: nothing may be translated into d any more.
func (d *Interner) SetLines(location uint32, lines []columns.Line) {
	d.Locations[location].Lines = lines
	d.Bytes += 24 * int64(len(lines))
}
