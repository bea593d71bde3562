// SPDX-License-Identifier: Apache-2.0

package dictionary

import (
	"cmp"
	"slices"

	"github.com/fleetprof/fleetprof/server/columns"
)

// Translation turns the numbers of one dictionary into those of another, when they
// are first needed: what nobody asks for never gets in. It is not safe for
// concurrent use.
type Translation struct {
	to   *Interner
	from *Dictionary
	// For each number of from that of to plus 1, or 0 while unknown.
	strings, mappings, functions, locations, labels, labelSets []uint32

	only  []string // names of the labels that are taken over, if some
	some  bool
	names bool // of locations with functions only their names are taken over

	path  []frame // of the last Frames, outermost first
	lines []columns.Line
	set   []uint32
}

// Translate makes a Translation.
func (d *Interner) Translate(from *Dictionary) *Translation {
	return &Translation{
		to: d, from: from,
		strings:   make([]uint32, len(from.Strings)),
		mappings:  make([]uint32, len(from.Mappings)),
		functions: make([]uint32, len(from.Functions)),
		locations: make([]uint32, len(from.Locations)),
		labels:    make([]uint32, len(from.LabelSets.labels)),
		labelSets: make([]uint32, from.LabelSets.Len()),
	}
}

// WithLabels has t take over the labels of these names only: sets that differ in others are one.
func (t *Translation) WithLabels(names []string) *Translation {
	t.only, t.some = names, true
	return t
}

// Size is about how many bytes of memory t holds.
func (t *Translation) Size() int64 {
	return 4 * int64(len(t.strings)+len(t.mappings)+len(t.functions)+len(t.locations)+len(t.labels)+len(t.labelSets))
}

// String translates a string.
func (t *Translation) String(i uint32) uint32 {
	if t.strings[i] == 0 {
		t.strings[i] = t.to.String(t.from.Strings[i]) + 1
	}
	return t.strings[i] - 1
}

func (t *Translation) mapping(i uint32) uint32 {
	if t.mappings[i] == 0 {
		m := t.from.Mappings[i]
		m.File, m.BuildID = t.String(m.File), t.String(m.BuildID)
		t.mappings[i] = t.to.mapping(m) + 1
	}
	return t.mappings[i] - 1
}

func (t *Translation) function(i uint32) uint32 {
	if t.functions[i] == 0 {
		f := t.from.Functions[i]
		if t.names {
			f = columns.Function{Name: cmp.Or(f.Name, f.SystemName)}
		}
		f.Name, f.SystemName, f.File = t.String(f.Name), t.String(f.SystemName), t.String(f.File)
		t.functions[i] = t.to.Function(f) + 1
	}
	return t.functions[i] - 1
}

func (t *Translation) location(i uint32) uint32 {
	if t.locations[i] == 0 {
		l := t.from.Locations[i]
		if l.Mapping != 0 {
			l.Mapping = t.mapping(l.Mapping-1) + 1
		}
		t.lines = append(t.lines[:0], l.Lines...)
		for j := range t.lines {
			t.lines[j].Function = t.function(t.lines[j].Function)
		}
		l.Lines = t.lines
		if t.names && t.named(i) {
			l.Address, l.Folded = 0, false
			for j := range l.Lines {
				l.Lines[j] = columns.Line{Function: l.Lines[j].Function}
			}
		}
		t.locations[i] = t.to.location(l) + 1
	}
	return t.locations[i] - 1
}

// named reports whether all functions of a location have names.
func (t *Translation) named(location uint32) bool {
	lines := t.from.Locations[location].Lines
	return len(lines) > 0 && !slices.ContainsFunc(lines, func(l columns.Line) bool {
		f := &t.from.Functions[l.Function]
		return f.Name == 0 && f.SystemName == 0
	})
}

// Frames gives the stack of locations, innermost first. The outer frames that it shares
// with the one before cost nothing.
func (t *Translation) Frames(locations []uint32) uint32 {
	n := 0 // frames shared
	for last := len(locations) - 1; n < len(t.path) && n <= last && t.path[n].from == locations[last-n]; n++ {
	}
	t.path = t.path[:n]
	at := uint32(0)
	if n > 0 {
		at = t.path[n-1].stack
	}
	for _, l := range slices.Backward(locations[:len(locations)-n]) {
		at = t.to.Child(at, t.location(l))
		t.path = append(t.path, frame{l, at})
	}
	return at
}

// frame is a location that was translated, and the stack that it is the innermost of.
type frame struct{ from, stack uint32 }

// leftOut stands for the number of a label that is not taken over.
const leftOut = ^uint32(0)

// label translates a label, or says that it is left out.
func (t *Translation) label(i uint32) (id uint32, ok bool) {
	if t.labels[i] == 0 {
		l := t.from.LabelSets.labels[i]
		if t.some && !slices.Contains(t.only, t.from.Strings[l.Key]) {
			t.labels[i] = leftOut
		} else {
			t.labels[i] = t.to.label(columns.Label{Key: t.String(l.Key), Text: t.String(l.Text), Unit: t.String(l.Unit), Number: l.Number}) + 1
		}
	}
	return t.labels[i] - 1, t.labels[i] != leftOut
}

// LabelSet translates a label set.
func (t *Translation) LabelSet(i uint32) uint32 {
	if t.labelSets[i] == 0 {
		t.labelSets[i] = t.to.labelSet(t.labelsOf(i)) + 1
	}
	return t.labelSets[i] - 1
}

// LabelSetWith translates a label set with one more label, of a name of which it has none. WithLabels does not leave it out.
func (t *Translation) LabelSetWith(i uint32, key, text string) uint32 {
	t.set = append(t.labelsOf(i), t.to.label(columns.Label{Key: t.to.String(key), Text: t.to.String(text)}))
	return t.to.labelSet(t.set)
}

// labelsOf translates the labels of a set, until the next call.
func (t *Translation) labelsOf(i uint32) []uint32 {
	t.set = t.set[:0]
	for _, n := range t.from.LabelSets.Numbers(i) {
		if label, ok := t.label(n); ok {
			t.set = append(t.set, label)
		}
	}
	return t.set
}
