// SPDX-License-Identifier: Apache-2.0

package dictionary

// StackTranslation turns the stacks of one dictionary into those of another, when they are
// first needed: what nobody asks for is not even read. It is not safe for concurrent use.
type StackTranslation struct {
	to      *Interner
	symbols Symbols
	// locations has for each that of to plus 1, or 0 while unknown.
	locations []uint32
	prints    []Fingerprint  // once they have been read, if there are any
	hasPrints bool           // they have been read
	parts     []*Translation // by page of symbols; nil while it is not in memory
	heldParts []uint32       // those in memory, the oldest first
	partBytes int64          // of these, with their pages
	names     bool

	nodes     Nodes
	pages     []*nodePage // by page; nil where no stack was asked for
	held      int         // pages whose nodes are in memory
	pageBytes int64       // of pages
	err       error
	scratch   []step
}

// TranslateStacks makes a StackTranslation of stacks, whose locations are those of symbols.
func (d *Interner) TranslateStacks(symbols Symbols, nodes Nodes) *StackTranslation {
	return &StackTranslation{
		to: d, symbols: symbols, nodes: nodes,
		locations: make([]uint32, symbols.Len()),
		parts:     make([]*Translation, (symbols.Len()+symbols.PageLen()-1)/symbols.PageLen()),
		pages:     make([]*nodePage, (nodes.Len()+PageNodes-1)/PageNodes),
	}
}

// WithNames has t take over of locations whose functions have names only these and the mapping: locations
// that differ in the rest are one, and so are functions. All that is translated into one dictionary must be so, or
// nothing.
func (t *StackTranslation) WithNames() *StackTranslation {
	t.names = true
	return t
}

// Size is about how many bytes of memory t holds, the pages not counted that it was given.
func (t *StackTranslation) Size() int64 {
	return 4*int64(len(t.locations)) + 16*int64(len(t.prints)) + 8*int64(len(t.pages)+len(t.parts)) + t.pageBytes + t.partBytes
}

// sizeOf is how many bytes of memory a part holds. If there is one only, its page is in memory for others too.
func (t *StackTranslation) sizeOf(part *Translation) int64 {
	if len(t.parts) == 1 {
		return part.Size()
	}
	return part.Size() + part.from.Size()
}

// Locations translates all locations and lets go of the symbols.
func (t *StackTranslation) Locations() error {
	for i := range t.locations {
		if _, ok := t.location(uint32(i)); !ok {
			return t.err
		}
	}
	t.symbols, t.parts, t.prints, t.partBytes = nil, nil, nil, 0
	return nil
}

// location translates a location; false after an error.
func (t *StackTranslation) location(i uint32) (_ uint32, ok bool) {
	if t.locations[i] != 0 {
		return t.locations[i] - 1, true
	}
	if !t.hasPrints {
		if t.prints, t.err = t.symbols.Fingerprints(); t.err != nil {
			return 0, false
		}
		t.hasPrints = true
	}
	id, known := uint32(0), false
	if t.prints != nil {
		id, known = t.to.fingerprints[t.prints[i]]
	}
	if !known {
		length := uint32(t.symbols.PageLen())
		part := t.part(i / length)
		if part == nil {
			return 0, false
		}
		id = part.location(i % length)
		if t.prints != nil {
			t.to.fingerprint(t.prints[i], id)
		}
	}
	t.locations[i] = id + 1
	return id, true
}

// part gives the translation of a page of symbols, or nil after an error.
func (t *StackTranslation) part(i uint32) *Translation {
	if t.parts[i] == nil {
		if len(t.heldParts) == heldParts {
			oldest := t.heldParts[0]
			t.partBytes -= t.sizeOf(t.parts[oldest])
			t.parts[oldest], t.heldParts = nil, append(t.heldParts[:0], t.heldParts[1:]...)
		}
		page, err := t.symbols.Page(int(i))
		if err != nil {
			t.err = err
			return nil
		}
		t.parts[i] = t.to.Translate(page)
		t.parts[i].names = t.names
		t.heldParts = append(t.heldParts, i)
		t.partBytes += t.sizeOf(t.parts[i])
	}
	return t.parts[i]
}

// nodePage is what a StackTranslation knows of a page.
type nodePage struct {
	nodes []Node // nil while they are not in memory
	// to has for each node the stack that it became plus 1, or 0 while unknown.
	to [PageNodes]uint32
}

const (
	// pageBytes is what a nodePage takes without the nodes.
	pageBytes = 4*PageNodes + 24
	// heldPages bounds the pages of nodes that a StackTranslation holds. Few are needed at a time, as stacks that are
	// asked for one after the other mostly lie together.
	heldPages = 16
	// heldParts bounds the pages of symbols, of which a host needs more: what it runs is in many places.
	heldParts = 64
)

// node gives page and place of a node, with the nodes of the page in memory, or nil after an
// error.
func (t *StackTranslation) node(i uint32) (p *nodePage, at uint32) {
	p = t.pages[i/PageNodes]
	if p == nil {
		p = new(nodePage)
		t.pages[i/PageNodes] = p
		t.pageBytes += pageBytes
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

func (t *StackTranslation) dropNodes() {
	for _, p := range t.pages {
		if p != nil {
			p.nodes = nil
		}
	}
	t.held = 0
}

// known gives what a stack has become plus 1, or 0.
func (t *StackTranslation) known(i uint32) uint32 {
	if p := t.pages[i/PageNodes]; p != nil {
		return p.to[i%PageNodes]
	}
	return 0
}

// Stack translates a stack. After an error of Nodes or Symbols it gives the empty one: see Err.
func (t *StackTranslation) Stack(i uint32) uint32 {
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
		location, ok := t.location(path[j].location)
		if !ok {
			return 0
		}
		at = t.to.Child(at, location)
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

// Err is the error of Nodes or Symbols after which Stack gave nothing.
func (t *StackTranslation) Err() error { return t.err }
