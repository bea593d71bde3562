// SPDX-License-Identifier: Apache-2.0

package profiletest

import "github.com/fleetprof/fleetprof/server/dictionary"

// Nodes reads all nodes of stacks.
func Nodes(n dictionary.Nodes) (all []dictionary.Node, err error) {
	for i := 0; len(all) < n.Len(); i++ {
		page, err := n.Page(i)
		if err != nil {
			return nil, err
		}
		all = append(all, page...)
	}
	return all, nil
}

// Symbols reads all pages of symbols, as one dictionary.
func Symbols(s dictionary.Symbols) (*dictionary.Dictionary, error) {
	d := dictionary.New()
	err := d.TranslateStacks(s, dictionary.AllNodes(nil)).Locations()
	return &d.Dictionary, err
}

// Frames gives the locations of a stack, innermost first.
func Frames(d *dictionary.Dictionary, stack uint32) (all []uint32) {
	for ; stack != 0; stack = d.Stacks[stack].Parent {
		all = append(all, d.Stacks[stack].Location)
	}
	return all
}
