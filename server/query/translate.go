// SPDX-License-Identifier: Apache-2.0

package query

import (
	"cmp"
	"encoding/binary"
	"slices"

	"github.com/fleetprof/fleetprof/server/columns"
)

// translation turns the indexes of one profile into those of the merged one,
// when they are first needed: what no selected sample refers to never gets in.
type translation struct {
	m *merged
	p *hashed
	// For each index of the profile the merged one plus 1, or 0 while unknown.
	strings, mappings, functions, locations []uint32
	// labelSets has the merged index plus 2, or excluded.
	labelSets []uint32
}

const excluded = 1

func newTranslation(m *merged, p *hashed) *translation {
	return &translation{
		m: m, p: p,
		strings:   make([]uint32, len(p.Strings)),
		mappings:  make([]uint32, len(p.Mappings)),
		functions: make([]uint32, len(p.Functions)),
		locations: make([]uint32, len(p.Locations)),
		labelSets: make([]uint32, p.LabelSets()),
	}
}

func (t *translation) str(i uint32) uint32 {
	if t.strings[i] == 0 {
		t.strings[i] = t.m.str(t.p.Strings[i]) + 1
	}
	return t.strings[i] - 1
}

func (t *translation) mapping(i uint32) uint32 {
	if t.mappings[i] == 0 {
		m := t.p.Mappings[i]
		m.File, m.BuildID = t.str(m.File), t.str(m.BuildID)
		id, ok := t.m.mappings.index[m]
		if !ok {
			t.m.held += 2*40 + mapOverhead
			id = t.m.mappings.add(m, m)
		}
		t.mappings[i] = id + 1
	}
	return t.mappings[i] - 1
}

func (t *translation) function(i uint32) uint32 {
	if t.functions[i] == 0 {
		f := t.p.Functions[i]
		f.Name, f.SystemName, f.File = t.str(f.Name), t.str(f.SystemName), t.str(f.File)
		id, ok := t.m.functions.index[f]
		if !ok {
			t.m.held += 2*24 + mapOverhead
			id = t.m.functions.add(f, f)
		}
		t.functions[i] = id + 1
	}
	return t.functions[i] - 1
}

func (t *translation) location(i uint32) uint32 {
	if t.locations[i] == 0 {
		t.locations[i] = t.findLocation(i) + 1
	}
	return t.locations[i] - 1
}

// findLocation looks for location i among those of its hash, and adds it if it
// is not there.
func (t *translation) findLocation(i uint32) uint32 {
	known := &t.m.locations
	previous := uint32(0)
	if id, ok := known.index[t.p.locations[i]]; ok {
		previous = id + 1
	}
	for at := previous; at != 0; at = known.values[at-1].previous {
		if t.sameLocation(i, &known.values[at-1]) {
			return at - 1
		}
	}
	l := location{Location: t.p.Locations[i], lines: slices.Clone(t.p.LocationLines(int(i))), previous: previous}
	if l.Mapping != 0 {
		l.Mapping = t.mapping(l.Mapping-1) + 1
	}
	for j := range l.lines {
		l.lines[j].Function = t.function(l.lines[j].Function)
	}
	t.m.held += 48 + 8 + 24*int64(len(l.lines)) + mapOverhead
	return known.add(t.p.locations[i], l)
}

func (t *translation) sameLocation(i uint32, l *location) bool {
	own, lines := t.p.Locations[i], t.p.LocationLines(int(i))
	if own.Address != l.Address || own.Folded != l.Folded || len(lines) != len(l.lines) {
		return false
	}
	if own.Mapping != 0 {
		own.Mapping = t.mapping(own.Mapping-1) + 1
	}
	if own.Mapping != l.Mapping {
		return false
	}
	for j, line := range lines {
		if line.Line != l.lines[j].Line || line.Column != l.lines[j].Column || !t.sameFunction(line.Function, l.lines[j].Function) {
			return false
		}
	}
	return true
}

// sameFunction compares function i with a merged one, by content unless i is
// translated already; if they are the same, it is from then on.
func (t *translation) sameFunction(i, id uint32) bool {
	if t.functions[i] != 0 {
		return t.functions[i]-1 == id
	}
	own, f := t.p.Functions[i], t.m.functions.values[id]
	same := own.StartLine == f.StartLine && t.sameString(own.Name, f.Name) &&
		t.sameString(own.SystemName, f.SystemName) && t.sameString(own.File, f.File)
	if same {
		t.functions[i] = id + 1
	}
	return same
}

func (t *translation) sameString(i, id uint32) bool { return t.p.Strings[i] == t.m.strings.values[id] }

func (t *translation) stack(locations []uint32) uint32 {
	key := t.m.scratch[:0]
	for _, l := range locations {
		key = binary.LittleEndian.AppendUint32(key, t.location(l))
	}
	t.m.scratch = key
	if id, ok := t.m.stacks.index[string(key)]; ok {
		return id
	}
	t.m.held += int64(len(key)) + 2*16 + mapOverhead
	s := string(key)
	return t.m.stacks.add(s, s)
}

// labelSet reports false for the labels of samples that are not selected.
func (t *translation) labelSet(i int) (uint32, bool) {
	if t.labelSets[i] == 0 {
		t.labelSets[i] = excluded
		if t.m.selector.Matches(func(name string) string { return textLabel(t.p.Profile, i, name) }) {
			t.labelSets[i] = t.addLabelSet(t.p.Labels(i)) + excluded + 1
		}
	}
	return t.labelSets[i] - excluded - 1, t.labelSets[i] != excluded
}

func (t *translation) addLabelSet(labels []columns.Label) uint32 {
	set := slices.Clone(labels)
	for i, l := range set {
		set[i].Key, set[i].Text, set[i].Unit = t.str(l.Key), t.str(l.Text), t.str(l.Unit)
	}
	slices.SortFunc(set, func(a, b columns.Label) int {
		return cmp.Or(cmp.Compare(a.Key, b.Key), cmp.Compare(a.Text, b.Text), cmp.Compare(a.Number, b.Number), cmp.Compare(a.Unit, b.Unit))
	})
	key := t.m.scratch[:0]
	for _, l := range set {
		for _, n := range [...]uint64{uint64(l.Key), uint64(l.Text), uint64(l.Number), uint64(l.Unit)} {
			key = binary.AppendUvarint(key, n)
		}
	}
	t.m.scratch = key
	if id, ok := t.m.labelSets.index[string(key)]; ok {
		return id
	}
	t.m.held += int64(len(key)) + 40 + 24*int64(len(set)) + mapOverhead
	return t.m.labelSets.add(string(key), set)
}

// textLabel gives the value of a label of set i of p, or the empty string.
func textLabel(p *columns.Profile, i int, name string) string {
	for _, l := range p.Labels(i) {
		if p.Strings[l.Key] == name && l.Text != 0 {
			return p.Strings[l.Text]
		}
	}
	return ""
}
