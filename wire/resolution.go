// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"fmt"

	"github.com/fleetprof/fleetprof/server/columns"
)

// resolution makes a profile of numbers of a session. Its tables have, for a number of
// the session, the index in the profile plus 1, or 0 where it is not in there yet.
type resolution struct {
	*Session
	b                                                       *columns.Builder
	strings, mappings, functions, locations, labels, stacks []uint32
	lines                                                   []columns.Line
	frames                                                  [][]uint32 // of stacks
	origin                                                  *columns.Origin
}

func newResolution(s *Session) *resolution {
	of := func(kind int) []uint32 { return make([]uint32, s.tables[kind].len()) }
	return &resolution{
		Session: s, strings: of(kindString), mappings: of(kindMapping), functions: of(kindFunction),
		locations: of(kindLocation), labels: of(kindLabelSet), stacks: of(kindStack),
		origin: &columns.Origin{Sender: s.sender},
	}
}

// profile reads what follows the new entries.
func (x *resolution) profile(r *reader) (*columns.Profile, error) {
	x.b = columns.NewBuilder(string(x.tables[kindString].entry(x.Session.string(r))))
	start, duration, period := r.varint(), r.varint(), r.varint()
	n := r.uvarint()
	if n > columns.MaxTypes {
		return nil, fmt.Errorf("read push: %d sample types, want %d at most", n, columns.MaxTypes)
	}
	types := make([]columns.ValueType, n+1)
	for i := range types {
		types[i] = columns.ValueType{Type: x.readString(r), Unit: x.readString(r)}
	}
	x.b.SetHead(start, duration, period, types[0], types[1:]...)
	for n := r.uvarint(); n > 0 && r.err == nil; n-- {
		x.b.Comment(x.readString(r))
	}
	if err := x.rows(r, int(n)); err != nil {
		return nil, err
	}
	p, err := x.b.Finish()
	if err == nil {
		p.Origin = x.origin
	}
	return p, err
}

// rows reads the samples. Each takes at least a byte in each column, so that their
// number is bounded by the length of the push.
func (x *resolution) rows(r *reader, types int) error {
	n := r.uvarint()
	if n*uint64(2+types) > uint64(len(r.buf)) || n > MaxBytes {
		r.fail(errCut)
	}
	if r.err != nil {
		return r.err
	}
	sets := x.steps(r, int(n), "label set", kindLabelSet)
	stacks := x.steps(r, int(n), "stack", kindStack)
	values := make([]int64, int(n)*types)
	for column := range types {
		factor := r.varint()
		for i := range int(n) {
			values[i*types+column] = r.varint() + factor*values[i*types]
		}
	}
	if r.err != nil {
		return r.err
	}
	x.origin.Stacks = stacks
	if len(r.buf) > 0 {
		return fmt.Errorf("read push: %d bytes follow the last column", len(r.buf))
	}
	for i := range int(n) {
		x.b.Sample(x.stack(stacks[i]), x.labelSet(sets[i]), values[i*types:(i+1)*types]...)
	}
	return nil
}

// steps reads a column of numbers of the session, each as its distance to the one before.
func (x *resolution) steps(r *reader, n int, what string, kind int) []uint32 {
	column, at, limit := make([]uint32, n), int64(0), int64(x.tables[kind].len())
	for i := range column {
		if at += r.varint(); at < 0 || at >= limit {
			r.fail(fmt.Errorf("find %s %d: the session has %d", what, at, limit))
			return nil
		}
		column[i] = uint32(at)
	}
	return column
}

func (x *resolution) readString(r *reader) uint32 { return x.text(x.Session.string(r)) }

func (x *resolution) text(i uint32) uint32 {
	if x.strings[i] == 0 {
		x.strings[i] = x.b.String(string(x.tables[kindString].entry(i))) + 1
	}
	return x.strings[i] - 1
}

func (x *resolution) mappingIndex(i uint32) uint32 {
	if x.mappings[i] == 0 {
		m := x.mapping(&reader{buf: x.tables[kindMapping].entry(i)})
		m.File, m.BuildID = x.text(m.File), x.text(m.BuildID)
		x.mappings[i] = x.b.Mapping(m) + 1
	}
	return x.mappings[i] - 1
}

func (x *resolution) functionIndex(i uint32) uint32 {
	if x.functions[i] == 0 {
		f := x.function(&reader{buf: x.tables[kindFunction].entry(i)})
		f.Name, f.SystemName, f.File = x.text(f.Name), x.text(f.SystemName), x.text(f.File)
		x.functions[i] = x.b.Function(f) + 1
	}
	return x.functions[i] - 1
}

func (x *resolution) locationIndex(i uint32) uint32 {
	if x.locations[i] == 0 {
		var l columns.Location
		l, x.lines = x.location(&reader{buf: x.tables[kindLocation].entry(i)}, x.lines[:0])
		if l.Mapping > 0 {
			l.Mapping = x.mappingIndex(l.Mapping-1) + 1
		}
		for n := range x.lines {
			x.lines[n].Function = x.functionIndex(x.lines[n].Function)
		}
		x.locations[i] = x.b.Location(l, x.lines...) + 1
		x.origin.Locations = append(x.origin.Locations, i)
	}
	return x.locations[i] - 1
}

func (x *resolution) labelSet(i uint32) uint32 {
	if x.labels[i] == 0 {
		var set []columns.Label
		for r := (&reader{buf: x.tables[kindLabelSet].entry(i)}); r.more(); {
			l := x.label(r)
			l.Key, l.Text, l.Unit = x.text(l.Key), x.text(l.Text), x.text(l.Unit)
			set = append(set, l)
		}
		x.labels[i] = x.b.LabelSet(set) + 1
		if int(x.labels[i]) > len(x.origin.LabelSets) { // and not one of another number
			x.origin.LabelSets = append(x.origin.LabelSets, i)
		}
	}
	return x.labels[i] - 1
}

// stack gives the locations of a stack as indexes of the profile.
func (x *resolution) stack(i uint32) []uint32 {
	if x.stacks[i] == 0 {
		var frames []uint32
		for r := (&reader{buf: x.tables[kindStack].entry(i)}); r.more(); {
			frames = append(frames, x.locationIndex(uint32(r.uvarint())))
		}
		x.frames = append(x.frames, frames)
		x.stacks[i] = uint32(len(x.frames))
	}
	return x.frames[x.stacks[i]-1]
}
