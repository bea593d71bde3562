// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"cmp"
	"encoding/binary"
	"slices"

	"github.com/fleetprof/fleetprof/server/columns"
)

// translation numbers what one profile consists of. Its tables have, for an index of
// the profile, the number in the session plus 1, or 0 where that is not known yet.
type translation struct {
	*Encoder
	p                                               *columns.Profile
	strings, mappings, functions, locations, labels []uint32
}

func newTranslation(e *Encoder, p *columns.Profile) *translation {
	return &translation{
		Encoder: e, p: p,
		strings: make([]uint32, len(p.Strings)), mappings: make([]uint32, len(p.Mappings)), functions: make([]uint32, len(p.Functions)),
		locations: make([]uint32, len(p.Locations)), labels: make([]uint32, p.LabelSets()),
	}
}

// number makes b the entry of a kind and gives its number.
func (t *translation) number(kind int, b []byte) uint32 {
	t.scratch[kind] = b
	return t.add(kind, b)
}

func (t *translation) string(i uint32) uint64 {
	if t.strings[i] == 0 {
		t.strings[i] = t.number(kindString, append(t.scratch[kindString][:0], t.p.Strings[i]...)) + 1
	}
	return uint64(t.strings[i] - 1)
}

func (t *translation) mapping(i uint32) uint64 {
	if t.mappings[i] == 0 {
		m := t.p.Mappings[i]
		b := t.scratch[kindMapping][:0]
		for _, v := range [...]uint64{m.Start, m.Limit, m.Offset, t.string(m.File), t.string(m.BuildID), uint64(m.Resolved)} {
			b = binary.AppendUvarint(b, v)
		}
		t.mappings[i] = t.number(kindMapping, b) + 1
	}
	return uint64(t.mappings[i] - 1)
}

func (t *translation) function(i uint32) uint64 {
	if t.functions[i] == 0 {
		f := t.p.Functions[i]
		b := t.scratch[kindFunction][:0]
		for _, v := range [...]uint64{t.string(f.Name), t.string(f.SystemName), t.string(f.File)} {
			b = binary.AppendUvarint(b, v)
		}
		t.functions[i] = t.number(kindFunction, binary.AppendVarint(b, f.StartLine)) + 1
	}
	return uint64(t.functions[i] - 1)
}

func (t *translation) location(i uint32) uint64 {
	if t.locations[i] == 0 {
		l := t.p.Locations[i]
		mapping := uint64(0)
		if l.Mapping > 0 {
			mapping = t.mapping(l.Mapping-1) + 1
		}
		b := binary.AppendUvarint(t.scratch[kindLocation][:0], mapping<<1|bit(l.Folded))
		b = binary.AppendUvarint(b, l.Address)
		for _, line := range t.p.LocationLines(int(i)) {
			b = binary.AppendUvarint(b, t.function(line.Function)<<1|bit(line.Column != 0))
			b = binary.AppendVarint(b, line.Line)
			if line.Column != 0 {
				b = binary.AppendVarint(b, line.Column)
			}
		}
		t.locations[i] = t.number(kindLocation, b) + 1
	}
	return uint64(t.locations[i] - 1)
}

func bit(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

// stack numbers the stack of sample i.
func (t *translation) stack(i int) uint32 {
	b := t.scratch[kindStack][:0]
	for _, l := range t.p.Stack(i) {
		b = binary.AppendUvarint(b, t.location(l))
	}
	return t.number(kindStack, b)
}

func (t *translation) labelSet(i uint32) uint32 {
	if t.labels[i] == 0 {
		b := t.scratch[kindLabelSet][:0]
		for _, l := range t.p.Labels(int(i)) {
			number := l.Text == 0
			b = binary.AppendUvarint(b, t.string(l.Key)<<1|bit(number))
			if number {
				b = binary.AppendUvarint(binary.AppendVarint(b, l.Number), t.string(l.Unit))
			} else {
				b = binary.AppendUvarint(b, t.string(l.Text))
			}
		}
		t.labels[i] = t.number(kindLabelSet, b) + 1
	}
	return t.labels[i] - 1
}

// head is what the profile says once.
func (t *translation) head() []byte {
	p := t.p
	name := t.number(kindString, append(t.scratch[kindString][:0], p.Name...))
	b := binary.AppendUvarint(nil, uint64(name))
	for _, v := range [...]int64{p.Start, p.Duration, p.Period} {
		b = binary.AppendVarint(b, v)
	}
	b = binary.AppendUvarint(b, uint64(len(p.Types)))
	for _, v := range append([]columns.ValueType{p.PeriodType}, p.Types...) {
		b = binary.AppendUvarint(binary.AppendUvarint(b, t.string(v.Type)), t.string(v.Unit))
	}
	b = binary.AppendUvarint(b, uint64(len(p.Comments)))
	for _, c := range p.Comments {
		b = binary.AppendUvarint(b, t.string(c))
	}
	return b
}

// row is a sample by the numbers of its label set and its stack, and its place in the
// profile.
type row struct {
	set, stack uint32
	at         int
}

// rows is the samples, column by column. They are sorted, so that most of the first
// two columns are small steps.
func (t *translation) rows() []byte {
	all := make([]row, t.p.Len())
	for i, set := range t.p.LabelSet {
		all[i] = row{t.labelSet(set), t.stack(i), i}
	}
	slices.SortFunc(all, func(a, b row) int { return cmp.Or(cmp.Compare(a.set, b.set), cmp.Compare(a.stack, b.stack)) })
	b := binary.AppendUvarint(nil, uint64(len(all)))
	last := row{}
	for _, r := range all {
		b = binary.AppendVarint(b, int64(r.set)-int64(last.set))
		last = r
	}
	last = row{}
	for _, r := range all {
		b = binary.AppendVarint(b, int64(r.stack)-int64(last.stack))
		last = r
	}
	for column := range t.p.Values {
		b = t.column(b, all, column)
	}
	return b
}

// column appends the values of one type. CPU time is usually the period for each
// sample, so a column is sent as what it differs from a multiple of the first, where that
// is shorter.
func (t *translation) column(b []byte, all []row, column int) []byte {
	plain := t.differences(all, column, 0)
	if column > 0 {
		if d := t.differences(all, column, t.p.Period); len(d) < len(plain) {
			return append(b, d...)
		}
	}
	return append(b, plain...)
}

func (t *translation) differences(all []row, column int, factor int64) []byte {
	b := binary.AppendVarint(make([]byte, 0, 2*len(all)), factor)
	first, values := t.p.Values[0], t.p.Values[column]
	for _, r := range all {
		b = binary.AppendVarint(b, values[r.at]-factor*first[r.at]) // wraps, as its reading does
	}
	return b
}
