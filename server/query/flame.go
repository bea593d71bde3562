// SPDX-License-Identifier: Apache-2.0

package query

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/fleetprof/fleetprof/server/columns"
)

// maxTree bounds the nodes of a tree before it is trimmed.
const maxTree = 8 << 20

// frame is what one box of a flame graph says: a function and the base name of
// the file it is in.
type frame struct{ name, object string }

// node is one box. A parent always has a smaller index than its children.
type node struct {
	parent, frame uint32
	self, total   int64 // CPU time in nanoseconds
}

// tree is a flame graph: node 0 is the root. Frames that call each other in
// the same way are one node, and inlined calls are nodes of their own.
type tree struct {
	nodes    []node
	frames   table[frame, frame]
	children map[uint64]uint32 // parent<<32 | frame → node
}

// shape says what the levels of a tree are.
type shape struct {
	// by are labels: each has a level of its own, and the first is below the root.
	by []string
	// depth is how many levels there are below the root. What is deeper counts
	// as the node's own.
	depth int
}

// stacks reports whether there is a level for stacks.
func (s shape) stacks() bool { return s.depth > len(s.by) }

// newTree draws the merged samples.
func newTree(m *merged, s shape) (*tree, error) {
	t := &tree{children: map[uint64]uint32{}}
	t.nodes = append(t.nodes, node{frame: t.frame(frame{name: "all"})})
	locations := make([][]uint32, len(m.locations.values)) // frames, outermost first
	for i, l := range m.locations.values {
		locations[i] = t.locationFrames(m, l)
	}
	groups := t.groups(m, s.by)
	for _, r := range m.rows.values {
		at, levels := uint32(0), s.depth
		descend := func(frames []uint32) {
			frames = frames[:min(levels, len(frames))]
			levels -= len(frames)
			for _, f := range frames {
				at = t.child(at, f)
			}
		}
		descend(groups[r.labelSet])
		stack := m.stackLocations(r.stack)
		for _, l := range slices.Backward(stack) {
			descend(locations[l])
		}
		t.nodes[at].self = addSaturated(t.nodes[at].self, r.cpu)
		if len(t.nodes) > maxTree {
			return nil, &limitError{fmt.Sprintf("the flame graph has more than %d boxes", maxTree)}
		}
	}
	for i := len(t.nodes) - 1; i >= 0; i-- {
		n := &t.nodes[i]
		n.total = addSaturated(n.total, n.self)
		if i > 0 {
			up := &t.nodes[n.parent]
			up.total = addSaturated(up.total, n.total)
		}
	}
	return t, nil
}

func (t *tree) frame(f frame) uint32 {
	if id, ok := t.frames.index[f]; ok {
		return id
	}
	return t.frames.add(f, f)
}

func (t *tree) child(parent, f uint32) uint32 {
	key := uint64(parent)<<32 | uint64(f)
	id, ok := t.children[key]
	if !ok {
		id = uint32(len(t.nodes))
		t.children[key] = id
		t.nodes = append(t.nodes, node{parent: parent, frame: f})
	}
	return id
}

// groups gives the frames for each label set: the values of the labels by.
func (t *tree) groups(m *merged, by []string) [][]uint32 {
	groups := make([][]uint32, len(m.labelSets.values))
	for _, name := range by {
		key := m.str(name)
		for set := range groups {
			value := m.label(uint32(set), key)
			if value == "" {
				value = "(no " + name + ")"
			}
			groups[set] = append(groups[set], t.frame(frame{name: value}))
		}
	}
	return groups
}

// locationFrames gives the frames of a location, the outermost first. Without
// any the address stands for the name.
func (t *tree) locationFrames(m *merged, l location) []uint32 {
	object, file, offset := "", "", l.Address
	if l.Mapping != 0 {
		mapping := m.mappings.values[l.Mapping-1]
		file = m.strings.values[mapping.File]
		offset = l.Address - mapping.Start + mapping.Offset
	}
	if file != "" {
		object = path.Base(file)
	}
	if len(l.lines) == 0 {
		return []uint32{t.frame(frame{fmt.Sprintf("%s+%#x", cmp.Or(object, "[unknown]"), offset), object})}
	}
	frames := make([]uint32, 0, len(l.lines))
	for _, line := range slices.Backward(l.lines) {
		frames = append(frames, t.frame(frame{t.functionName(m, line, object, offset), object}))
	}
	return frames
}

func (t *tree) functionName(m *merged, line columns.Line, object string, offset uint64) string {
	f := m.functions.values[line.Function]
	if name := cmp.Or(m.strings.values[f.Name], m.strings.values[f.SystemName]); name != "" {
		return name
	}
	return fmt.Sprintf("%s+%#x", cmp.Or(object, "[unknown]"), offset)
}

// flameGraph is the trimmed tree as the page gets it. See API.flamegraph for
// the meaning of the fields.
type flameGraph struct {
	From     int64      `json:"from"`
	To       int64      `json:"to"`
	Oldest   int64      `json:"oldest"`
	Newest   int64      `json:"newest"`
	Unit     string     `json:"unit"`
	Total    int64      `json:"total"`
	Samples  int64      `json:"samples"`
	Profiles int        `json:"profiles"`
	Hosts    int        `json:"hosts"`
	Skipped  int        `json:"skipped"`
	Hidden   int64      `json:"hidden"`
	Names    []string   `json:"names"`
	Objects  []string   `json:"objects"`
	Nodes    [][5]int64 `json:"nodes"`
}

// trim writes the largest nodes into g, at most limit, in pre-order. What is
// left out counts in the totals of the nodes above it, and in g.Hidden.
func (t *tree) trim(g *flameGraph, limit int) {
	kept := t.largest(limit)
	children := make(map[uint32][]uint32, len(kept))
	in := make([]bool, len(t.nodes))
	for _, n := range kept {
		in[n] = true
		if n != 0 {
			children[t.nodes[n].parent] = append(children[t.nodes[n].parent], n)
		}
	}
	for i, n := range t.nodes {
		if !in[i] && in[n.parent] {
			g.Hidden = addSaturated(g.Hidden, n.total)
		}
	}
	var names, objects table[string, string]
	objects.add("", "")
	g.Nodes = make([][5]int64, 0, len(kept))
	type step struct {
		node  uint32
		depth int64
	}
	for open := []step{{}}; len(open) > 0; {
		at := open[len(open)-1]
		open = open[:len(open)-1]
		n := t.nodes[at.node]
		f := t.frames.values[n.frame]
		g.Nodes = append(g.Nodes, [5]int64{number(&names, f.name), number(&objects, f.object), at.depth, n.total, n.self})
		below := children[at.node]
		slices.SortFunc(below, func(a, b uint32) int { return t.compareFrames(b, a) }) // the first is taken last
		for _, c := range below {
			open = append(open, step{c, at.depth + 1})
		}
	}
	g.Names, g.Objects = names.values, objects.values
}

// number is the index of s, which is added if it is new.
func number(t *table[string, string], s string) int64 {
	if id, ok := t.index[s]; ok {
		return int64(id)
	}
	return int64(t.add(s, s))
}

// largest gives the indexes of the largest nodes, at most limit. Since a node
// is never larger than its parent and comes after it, the parents of all of
// them are among them.
func (t *tree) largest(limit int) []uint32 {
	all := make([]uint32, len(t.nodes))
	for i := range all {
		all[i] = uint32(i)
	}
	if len(all) <= limit {
		return all
	}
	slices.SortFunc(all, func(a, b uint32) int {
		return cmp.Or(cmp.Compare(t.nodes[b].total, t.nodes[a].total), cmp.Compare(a, b))
	})
	return all[:limit]
}

func (t *tree) compareFrames(a, b uint32) int {
	x, y := t.frames.values[t.nodes[a].frame], t.frames.values[t.nodes[b].frame]
	return cmp.Or(strings.Compare(x.name, y.name), strings.Compare(x.object, y.object))
}
