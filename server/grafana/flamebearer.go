// SPDX-License-Identifier: Apache-2.0

package grafana

import (
	querierv1 "github.com/grafana/pyroscope/api/gen/proto/go/querier/v1"

	"github.com/fleetprof/fleetprof/server/query"
)

// hiddenName is the box of what has been trimmed below another, as Pyroscope calls it.
const hiddenName = "other"

// flameBearer writes a flame graph by levels: level 0 is the root. A level has four numbers for
// each box from left to right: how far it begins to the right of where the one before ends, its
// total, what of that is its own, and the index of its name. A box lies below its parent, whose
// own part is on the left. What has been trimmed is a box of its own, so that the own parts of
// all boxes add up to the total.
func flameBearer(g *query.FlameGraph) *querierv1.FlameGraph {
	b := &bearer{graph: g, out: &querierv1.FlameGraph{Total: g.Total, Names: append([]string{"total"}, g.Names[1:]...)}}
	if g.Total > 0 {
		b.subtree(0, 0)
	}
	return b.out
}

// bearer writes the boxes of a graph, whose nodes come in pre-order.
type bearer struct {
	graph *query.FlameGraph
	out   *querierv1.FlameGraph
	ends  []int64 // where the last box of each level ends
	other int64   // index of hiddenName, 0 while it has none
}

// subtree writes node i, whose box begins at left, with all below it, and gives the index of
// what comes after.
func (b *bearer) subtree(i int, left int64) (next int) {
	name, depth, total, self := b.graph.Nodes[i][0], b.graph.Nodes[i][2], b.graph.Nodes[i][3], b.graph.Nodes[i][4]
	if total > 0 { // Grafana cannot tell whose child a box without width is
		b.box(depth, left, total, self, name)
	}
	at := left + self
	for next = i + 1; next < len(b.graph.Nodes) && b.graph.Nodes[next][2] > depth; {
		width := b.graph.Nodes[next][3]
		next = b.subtree(next, at)
		at += width
	}
	if hidden := left + total - at; hidden > 0 {
		if b.other == 0 {
			b.other = int64(len(b.out.Names))
			b.out.Names = append(b.out.Names, hiddenName)
		}
		b.box(depth+1, at, hidden, hidden, b.other)
	}
	return next
}

func (b *bearer) box(depth, left, total, self, name int64) {
	if int(depth) == len(b.ends) {
		b.ends = append(b.ends, 0)
		b.out.Levels = append(b.out.Levels, new(querierv1.Level))
	}
	level := b.out.Levels[depth]
	level.Values = append(level.Values, left-b.ends[depth], total, self, name)
	b.ends[depth] = left + total
	b.out.MaxSelf = max(b.out.MaxSelf, self)
}
