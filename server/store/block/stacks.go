// SPDX-License-Identifier: Apache-2.0

package block

import (
	"errors"

	"github.com/fleetprof/fleetprof/server/dictionary"
)

// The columns of stackRecord.
const (
	columnParent = iota + 1
	columnLocation
)

// Stacks opens the stacks.
func (b *Block) Stacks(locations int) (StackReader, error) {
	o, err := b.pagesOf(&b.stacks, stacksFile, columnLocation+1, int64(b.Meta.Stacks))
	if err != nil {
		return nil, err
	}
	return &stackReader{
		open: o, count: b.Meta.Stacks, locations: locations,
		parent: newColumn(o, columnParent, copy32), location: newColumn(o, columnLocation, copy32),
	}, nil
}

type stackReader struct {
	open             *pagedFile
	count, locations int
	parent, location *column[uint32]
}

func (r *stackReader) Len() int { return r.count }

// Page reads a page of nodes, which is one of the file if fleetprof wrote it.
func (r *stackReader) Page(i int) (_ []dictionary.Node, err error) {
	defer guard(r.open.path, &err)
	first := i * dictionary.PageNodes
	nodes := make([]dictionary.Node, min(dictionary.PageNodes, r.count-first))
	parents, errParents := r.parent.read(int64(first), len(nodes))
	locations, errLocations := r.location.read(int64(first), len(nodes))
	if err := errors.Join(errParents, errLocations); err != nil {
		return nil, &DamagedError{r.open.path, err}
	}
	for j := range nodes {
		nodes[j] = dictionary.Node{Parent: parents[j], Location: locations[j]}
		if first+j > 0 && (int(parents[j]) >= first+j || int(locations[j]) >= r.locations) {
			return nil, &DamagedError{r.open.path, errReference}
		}
	}
	return nodes, nil
}

func (r *stackReader) Close() error { return errors.Join(r.parent.close(), r.location.close()) }
