// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strconv"

	"github.com/google/pprof/profile"

	"github.com/fleetprof/fleetprof/server/columns"
)

// placeKey is a location of the recording, or one that a service has instead: in code of its
// own, or at another address of the same function.
type placeKey struct {
	recorded *profile.Location
	service  int // number, 0 is shared
	shift    uint32
}

// place is a location and what it consists of, by numbers of the fleet. Mapping is a number plus 1, or 0.
type place struct {
	placeKey
	mapping uint32
	lines   []columns.Line
}

// numbered numbers values, of which it keeps one each.
type numbered[K comparable, V any] struct {
	numbers map[K]uint32
	all     []V
}

func (t *numbered[K, V]) number(key K, value func() V) uint32 {
	n, ok := t.numbers[key]
	if !ok {
		v := value() // which may number others
		n = uint32(len(t.all))
		if t.numbers == nil {
			t.numbers = map[K]uint32{}
		}
		t.numbers[key], t.all = n, append(t.all, v)
	}
	return n
}

type mappingKey struct {
	recorded *profile.Mapping
	service  int
}

type functionKey struct {
	recorded *profile.Function
	service  int
}

// place numbers a place.
func (f *fleet) place(l *profile.Location, owner int, shift uint32) uint32 {
	if isKernel(l) {
		owner = 0
	}
	key := placeKey{l, owner, shift}
	return f.places.number(key, func() place {
		p := place{placeKey: key}
		if l.Mapping != nil {
			p.mapping = f.mapping(l.Mapping, owner) + 1
		}
		for i, line := range l.Line {
			to := columns.Line{Function: f.function(line.Function, owner), Line: line.Line, Column: line.Column}
			if i == 0 {
				to.Line += int64(shift)
			}
			p.lines = append(p.lines, to)
		}
		return p
	})
}

func (f *fleet) mapping(m *profile.Mapping, service int) uint32 {
	return f.mappings.number(mappingKey{m, service}, func() columns.Mapping {
		file, id := m.File, m.BuildID
		if service > 0 {
			file, id = "/app/"+strconv.Itoa(service)+"/main", strconv.Itoa(service)+id
		}
		return columns.Mapping{
			Start: m.Start, Limit: m.Limit, Offset: m.Offset, File: f.text(file), BuildID: f.text(id), Resolved: columns.HasFunctions,
		}
	})
}

func (f *fleet) function(of *profile.Function, service int) uint32 {
	return f.functions.number(functionKey{of, service}, func() columns.Function {
		prefix, directory := "", ""
		if service > 0 {
			prefix, directory = "app"+strconv.Itoa(service)+".", "/app/"+strconv.Itoa(service)
		}
		return columns.Function{
			Name: f.text(prefix + of.Name), SystemName: f.text(prefix + of.SystemName), File: f.text(directory + of.Filename), StartLine: of.StartLine,
		}
	})
}

func (f *fleet) text(s string) uint32 { return f.texts.number(s, func() string { return s }) }
