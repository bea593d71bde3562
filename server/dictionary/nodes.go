// SPDX-License-Identifier: Apache-2.0

package dictionary

// PageNodes is how many nodes a page has; the last one has what is left.
const PageNodes = 4096

// Nodes gives the nodes of stacks by pages, since those who ask seldom need all of them: page
// i begins with node i*PageNodes. Node 0 stands for the empty stack. The parent of any other
// node has a smaller number than it has itself. Pages are never changed.
type Nodes interface {
	// Len is how many nodes there are.
	Len() int
	Page(i int) ([]Node, error)
}

// AllNodes are nodes that are in memory.
type AllNodes []Node

// Len is how many nodes there are.
func (n AllNodes) Len() int { return len(n) }

// Page gives a page. It never fails.
func (n AllNodes) Page(i int) ([]Node, error) {
	return n[i*PageNodes : min(len(n), (i+1)*PageNodes)], nil
}

// nodePage is what a Translation knows of a page.
type nodePage struct {
	nodes []Node // nil while they are not in memory
	// to has for each node the stack that it became plus 1, or 0 while unknown.
	to [PageNodes]uint32
}

const (
	// pageBytes is what a nodePage takes without the nodes.
	pageBytes = 4*PageNodes + 24
	// heldPages bounds the pages whose nodes a Translation holds. Few are needed at a
	// time, as stacks that are asked for one after the other mostly lie together.
	heldPages = 16
)

// node gives page and place of a node, with the nodes of the page in memory, or nil after an
// error.
func (t *Translation) node(i uint32) (p *nodePage, at uint32) {
	p = t.pages[i/PageNodes]
	if p == nil {
		p = new(nodePage)
		t.pages[i/PageNodes] = p
		t.stackBytes += pageBytes
	}
	if p.nodes == nil {
		if t.held == heldPages {
			t.dropNodes()
		}
		if p.nodes, t.err = t.nodes.Page(int(i / PageNodes)); t.err != nil {
			p.nodes = nil
			return nil, 0
		}
		t.held++
	}
	return p, i % PageNodes
}

func (t *Translation) dropNodes() {
	for _, p := range t.pages {
		if p != nil {
			p.nodes = nil
		}
	}
	t.held = 0
}

// known gives what a stack has become plus 1, or 0.
func (t *Translation) known(i uint32) uint32 {
	if p := t.pages[i/PageNodes]; p != nil {
		return p.to[i%PageNodes]
	}
	return 0
}

// Stack translates a stack. After an error of Nodes it gives the empty one: see Err.
func (t *Translation) Stack(i uint32) uint32 {
	if i == 0 {
		return 0
	}
	path, at := t.scratch[:0], uint32(0) // from the innermost frame to one that is known
	for i != 0 {
		if known := t.known(i); known != 0 {
			at = known - 1
			break
		}
		if t.err != nil {
			return 0
		}
		p, n := t.node(i)
		if p == nil {
			return 0
		}
		path = append(path, step{&p.to[n], p.nodes[n].Location})
		i = p.nodes[n].Parent
	}
	for j := len(path) - 1; j >= 0; j-- {
		at = t.to.Child(at, t.location(path[j].location))
		*path[j].to = at + 1
	}
	t.scratch = path
	return at
}

// step is a node on the way to one that is known.
type step struct {
	to       *uint32
	location uint32
}

// Err is the error of Nodes after which Stack gave nothing.
func (t *Translation) Err() error { return t.err }
