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
