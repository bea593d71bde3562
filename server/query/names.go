// SPDX-License-Identifier: Apache-2.0

package query

import (
	"cmp"
	"context"
	"fmt"
	"path"

	"github.com/fleetprof/fleetprof/sample"
	"github.com/fleetprof/fleetprof/server/columns"
	"github.com/fleetprof/fleetprof/server/dictionary"
)

// Namer names code of which profiles have only the address. It is safe for concurrent use.
type Namer interface {
	// Known reports whether there is something to name code of a build ID by.
	Known(buildID string) bool
	// Name names code by its address as linked, in a mapping of that build ID and path of the file
	// that begins at start. The innermost inlined call comes first.
	Name(buildID, path string, start, address uint64) (frames []sample.Frame, ok bool)
}

// nameAtOnce is how many locations and frames of them there may be before it is looked whether they are still few
// enough.
const nameAtOnce = 256

// name gives locations without frames those that are known. Nothing may be added to m afterwards.
func (m *merged) name(ctx context.Context, n Namer) error {
	named := m.nameable(n)
	if named == nil {
		return nil
	}
	unseen := 0
	for i := range m.dict.Locations {
		l := &m.dict.Locations[i]
		if len(l.Lines) > 0 || l.Mapping == 0 || !named[l.Mapping-1] {
			continue
		}
		if err := ctx.Err(); err != nil { // one may take long, of a file that was made to
			return err
		}
		mapping := &m.dict.Mappings[l.Mapping-1]
		frames, ok := n.Name(m.dict.Strings[mapping.BuildID], m.dict.Strings[mapping.File], mapping.Start, l.Address)
		if !ok {
			continue
		}
		m.dict.SetLines(uint32(i), m.lines(frames))
		mapping.Resolved |= columns.HasFunctions
		if unseen += 1 + len(frames); unseen >= nameAtOnce {
			if err := m.hold(0); err != nil {
				return err
			}
			unseen = 0
		}
	}
	return nil
}

// nameable says of each mapping whether code of it can be named; nil if none can.
func (m *merged) nameable(n Namer) (known []bool) {
	if n == nil {
		return nil
	}
	for i, mapping := range m.dict.Mappings {
		if mapping.BuildID == 0 || !n.Known(m.dict.Strings[mapping.BuildID]) {
			continue
		}
		if known == nil {
			known = make([]bool, len(m.dict.Mappings))
		}
		known[i] = true
	}
	return known
}

func (m *merged) lines(frames []sample.Frame) []columns.Line {
	lines := make([]columns.Line, len(frames))
	for i, f := range frames {
		system := cmp.Or(f.SystemName, f.Function) // as the agent writes it
		lines[i] = columns.Line{Line: f.Line, Function: m.dict.Function(columns.Function{
			Name: m.dict.String(f.Function), SystemName: m.dict.String(system), File: m.dict.String(f.File),
		})}
	}
	return lines
}

// placeOf gives the base name of the file that a location is in, if that is known, and its offset there,
// or else its address.
func (m *merged) placeOf(l dictionary.Location) (object string, offset uint64) {
	file := ""
	offset = l.Address
	if l.Mapping != 0 {
		mapping := m.dict.Mappings[l.Mapping-1]
		file = m.dict.Strings[mapping.File]
		offset = l.Address - mapping.Start + mapping.Offset
	}
	if file != "" {
		object = path.Base(file)
	}
	return object, offset
}

// placeName stands for the name of code that has none.
func placeName(object string, offset uint64) string {
	return fmt.Sprintf("%s+%#x", cmp.Or(object, "[unknown]"), offset)
}

// nameByPlace gives what still has no name its place for one: of mappings without names pprof asks
// the server for these, at a path of its own, and gives up if there is nothing.
func (m *merged) nameByPlace() {
	for i := range m.dict.Locations {
		l := &m.dict.Locations[i]
		if len(l.Lines) > 0 || l.Mapping == 0 {
			continue
		}
		name := placeName(m.placeOf(*l))
		m.dict.SetLines(uint32(i), m.lines([]sample.Frame{{Function: name}}))
		m.dict.Mappings[l.Mapping-1].Resolved |= columns.HasFunctions
	}
}
