// SPDX-License-Identifier: Apache-2.0

package query

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/fleetprof/fleetprof/server/dictionary"
)

// frame is what one box of a flame graph says: a function and the base name of
// the file it is in.
type frame struct{ name, object string }

// node is one box. A parent always has a smaller index than its children.
type node struct{ parent, frame uint32 }

// Bits are the two numbers.
func (n node) Bits() uint64 { return uint64(n.parent)<<32 | uint64(n.frame) }

// amount is what one profile says of a node, in CPU time in nanoseconds or in samples.
type amount struct{ self, total int64 }

// tree is a flame graph: node 0 is the root. Frames that call each other in
// the same way are one node, and inlined calls are nodes of their own.
type tree struct {
	nodes   []node
	levels  []int      // of each node, below the root
	amounts [][]amount // of each profile that is drawn, one for each node
	frames  table[frame, frame]
	numbers dictionary.Numbers[node]

	claim  *claim
	before int64 // bytes that the claim has for the profiles
	bytes  int64 // of frames
}

// shape says what the levels of a tree are.
type shape struct {
	// by are labels: each has a level of its own, and the first is below the root.
	by []string
	// depth is how many levels there are below the root. What is deeper counts
	// as the node's own.
	depth int
	// samples are counted then, not CPU time.
	samples bool
}

func (s shape) value(r row) int64 {
	if s.samples {
		return r.count
	}
	return r.value
}

// of asks for what there are levels for. Without the other labels samples of many processes are one,
// and without addresses and lines those of many places in a function.
func (s shape) of(q request) request {
	q.noStacks, q.drawn, q.by = s.depth <= len(s.by), true, s.by
	return q
}

// newTree draws profiles into one tree.
func newTree(ctx context.Context, s shape, profiles ...*merged) (*tree, error) {
	c := claimOf(ctx)
	t := &tree{amounts: make([][]amount, len(profiles)), claim: c, before: c.held()}
	t.newNode(node{frame: t.frame(frame{name: "all"})}, 0)
	for i, m := range profiles {
		if err := t.draw(ctx, m, s, i); err != nil {
			return nil, err
		}
		t.sumUp(t.amounts[i])
	}
	return t, nil
}

// drawAtOnce is how many boxes are drawn before it is looked whether that is still wanted and
// the tree still small enough.
const drawAtOnce = 8192

// draw adds the samples of a profile, whose number is i.
func (t *tree) draw(ctx context.Context, m *merged, s shape, i int) error {
	locations := make([][]uint32, len(m.dict.Locations)) // frames, outermost first
	for i, l := range m.dict.Locations {
		locations[i] = t.locationFrames(m, l)
		t.bytes += 24 + 4*int64(len(locations[i]))
		if i%drawAtOnce == 0 {
			if err := t.check(ctx); err != nil {
				return err
			}
		}
	}
	scratch := drawnBytes*int64(len(m.dict.Stacks)) + m.rows.bySetBytes()
	t.bytes += scratch
	if err := t.check(ctx); err != nil {
		return err
	}
	c := canvas{tree: t, merged: m, shape: s, locations: locations, drawn: make([]drawn, len(m.dict.Stacks))}
	groups, steps := t.groups(m, s.by), 0
	for set, rows := range m.rows.bySet() {
		base := c.descend(0, groups[set])
		for _, n := range rows {
			if steps >= drawAtOnce {
				steps = 0
				if err := t.check(ctx); err != nil {
					return err
				}
			}
			r := m.rows.values[n]
			at, boxes := c.stack(r.stack, uint32(set), base)
			self := &t.amounts[i][at].self
			*self = addSaturated(*self, s.value(r))
			steps += boxes + 1
		}
	}
	t.bytes -= scratch
	return t.check(ctx)
}

// canvas draws the rows of a profile. Stacks share their outer frames, and what was drawn of one
// is where the next begins.
type canvas struct {
	*tree
	*merged
	shape
	locations [][]uint32 // frames of each location, the outermost first
	drawn     []drawn    // of each stack
	open      []uint32
}

// drawn is the box of a stack's innermost frame in the group of a label set, whose number plus 1
// it is, or 0.
type drawn struct{ set, node uint32 }

// drawnBytes is what one of them takes.
const drawnBytes = 8

// stack gives the box of a stack below base, where the stacks of a label set begin, and how many frames
// had to be looked up for it.
func (c *canvas) stack(stack, set, base uint32) (at uint32, steps int) {
	at, c.open = base, c.open[:0]
	for ; stack != 0; stack = c.dict.Stacks[stack].Parent {
		if d := c.drawn[stack]; d.set == set+1 {
			at = d.node
			break
		}
		c.open = append(c.open, stack)
	}
	for _, open := range slices.Backward(c.open) {
		frames := c.locations[c.dict.Stacks[open].Location]
		at = c.descend(at, frames)
		c.drawn[open] = drawn{set + 1, at}
		steps += len(frames)
	}
	return at, steps
}

// descend gives the box of the last of some frames that call each other, as far as there are levels.
func (c *canvas) descend(at uint32, frames []uint32) uint32 {
	for _, f := range frames {
		if c.levels[at] >= c.depth {
			break
		}
		at = c.child(at, f)
	}
	return at
}

// check reports whether drawing may go on.
func (t *tree) check(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return t.claim.hold(t.before + t.bytes + int64(len(t.nodes))*t.nodeBytes())
}

// nodeBytes is about what a node takes: itself with its level and number, its amounts, and what choosing
// the largest takes.
func (t *tree) nodeBytes() int64 { return 16 + 8 + 16*int64(len(t.amounts)) + 9 }

// sumUp computes the totals.
func (t *tree) sumUp(all []amount) {
	for i := len(all) - 1; i >= 0; i-- {
		all[i].total = addSaturated(all[i].total, all[i].self)
		if i > 0 {
			up := &all[t.nodes[i].parent]
			up.total = addSaturated(up.total, all[i].total)
		}
	}
}

func (t *tree) newNode(n node, level int) (id uint32) {
	t.nodes, t.levels = append(t.nodes, n), append(t.levels, level)
	for i := range t.amounts {
		t.amounts[i] = append(t.amounts[i], amount{})
	}
	return uint32(len(t.nodes)) - 1
}

func (t *tree) frame(f frame) uint32 {
	if id, ok := t.frames.index[f]; ok {
		return id
	}
	t.bytes += 2*32 + mapOverhead
	return t.frames.add(f, f)
}

func (t *tree) child(parent, f uint32) uint32 {
	n := node{parent, f}
	id, slot, ok := t.numbers.Find(t.nodes, n)
	if !ok {
		id = t.newNode(n, t.levels[parent]+1)
		t.numbers.Put(t.nodes, slot)
	}
	return id
}

// groups gives the frames for each label set: the values of the labels by.
func (t *tree) groups(m *merged, by []string) [][]uint32 {
	groups := make([][]uint32, m.dict.LabelSets.Len())
	for _, name := range by {
		for set := range groups {
			value := m.dict.Label(uint32(set), name)
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
func (t *tree) locationFrames(m *merged, l dictionary.Location) []uint32 {
	object, offset := m.placeOf(l)
	if len(l.Lines) == 0 {
		return []uint32{t.frame(frame{placeName(object, offset), object})}
	}
	frames := make([]uint32, 0, len(l.Lines))
	for _, line := range slices.Backward(l.Lines) {
		f := m.dict.Functions[line.Function]
		name := cmp.Or(m.dict.Strings[f.Name], m.dict.Strings[f.SystemName])
		if name == "" {
			name = placeName(object, offset)
		}
		frames = append(frames, t.frame(frame{name, object}))
	}
	return frames
}

// FlameGraph is the trimmed tree as the page gets it. See API.flamegraph for
// the meaning of the fields.
type FlameGraph struct {
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
func (t *tree) trim(ctx context.Context, g *FlameGraph, limit int) error {
	all := t.amounts[0]
	p, err := t.plot(ctx, limit)
	if err != nil {
		return err
	}
	g.Names, g.Objects, g.Hidden = p.names.values, p.objects.values, p.hidden[0]
	g.Nodes = make([][5]int64, len(p.boxes))
	for i, b := range p.boxes {
		g.Nodes[i] = [5]int64{b.name, b.object, b.depth, all[b.node].total, all[b.node].self}
	}
	return nil
}

// plot is the part of a tree that is shown.
type plot struct {
	names, objects table[string, string]
	boxes          []box
	hidden         []int64 // of each profile
}

// box is one node that is shown: name and object are indexes of texts.
type box struct {
	node                uint32
	name, object, depth int64
}

// plotted is about what a box takes until it is written.
const plotted = 250

// plot chooses the largest nodes, at most limit, and puts them in pre-order, the children of a
// node by name.
func (t *tree) plot(ctx context.Context, limit int) (*plot, error) {
	if err := errors.Join(ctx.Err(), t.claim.more(plotted*int64(min(limit, len(t.nodes))))); err != nil {
		return nil, err
	}
	kept := t.largest(limit)
	children := make(map[uint32][]uint32, len(kept))
	in := make([]bool, len(t.nodes))
	for _, n := range kept {
		in[n] = true
		if n != 0 {
			children[t.nodes[n].parent] = append(children[t.nodes[n].parent], n)
		}
	}
	p := &plot{hidden: make([]int64, len(t.amounts)), boxes: make([]box, 0, len(kept))}
	for i, n := range t.nodes {
		for j := range t.amounts {
			if !in[i] && in[n.parent] {
				p.hidden[j] = addSaturated(p.hidden[j], t.amounts[j][i].total)
			}
		}
	}
	p.objects.add("", "")
	for open := []box{{}}; len(open) > 0; {
		at := open[len(open)-1]
		open = open[:len(open)-1]
		f := t.frames.values[t.nodes[at.node].frame]
		at.name, at.object = number(&p.names, f.name), number(&p.objects, f.object)
		p.boxes = append(p.boxes, at)
		below := children[at.node]
		slices.SortFunc(below, func(a, b uint32) int { return t.compareFrames(b, a) }) // the first is taken last
		for _, c := range below {
			open = append(open, box{node: c, depth: at.depth + 1})
		}
	}
	return p, nil
}

// number is the index of s, which is added if it is new.
func number(t *table[string, string], s string) int64 {
	if id, ok := t.index[s]; ok {
		return int64(id)
	}
	return int64(t.add(s, s))
}

// largest gives the indexes of the largest nodes, at most limit: those with the
// largest share, or sum of shares if several profiles are drawn. Since a node
// is never larger than its parent and comes after it, the parents of all of
// them are among them.
func (t *tree) largest(limit int) (all []uint32) {
	weight := make([]float64, len(t.nodes))
	for _, amounts := range t.amounts {
		for i, a := range amounts {
			if a.total > 0 {
				weight[i] += float64(a.total) / float64(amounts[0].total)
			}
		}
	}
	least := -1.0 // what those that are not among the largest so far do not exceed
	cut := func() {
		slices.SortFunc(all, func(a, b uint32) int { return cmp.Or(cmp.Compare(weight[b], weight[a]), cmp.Compare(a, b)) })
		if len(all) > limit {
			all, least = all[:limit], weight[all[limit-1]]
		}
	}
	for i, w := range weight {
		if w <= least {
			continue
		}
		if all = append(all, uint32(i)); len(all) >= 2*limit {
			cut()
		}
	}
	cut()
	return all
}

func (t *tree) compareFrames(a, b uint32) int {
	x, y := t.frames.values[t.nodes[a].frame], t.frames.values[t.nodes[b].frame]
	return cmp.Or(strings.Compare(x.name, y.name), strings.Compare(x.object, y.object))
}
