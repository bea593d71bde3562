// SPDX-License-Identifier: Apache-2.0

package store

import (
	"fmt"
	"slices"
	"testing"

	"github.com/fleetprof/fleetprof/server/store/block"
)

// Blocks are merged in the order of their time, and never more at once than the memory is for.
func TestBatches(t *testing.T) {
	const most = maxMerged / stackBytes // stacks
	for _, c := range []struct {
		stacks, series []int // of blocks that begin one after the other
		want           string
	}{
		{nil, nil, "[]"},
		{[]int{1, 2, 3}, []int{1, 2, 3}, "[[0 1 2]]"},
		{[]int{most - 1000, 1000, 1, most - 1, most + 1, 1}, make([]int, 6), "[[0 1] [2 3] [4] [5]]"},
		{[]int{1, 1, 1}, []int{maxMerged / seriesBytes / 2, maxMerged / seriesBytes / 3, maxMerged / seriesBytes / 2}, "[[0 1] [2]]"},
	} {
		var blocks []*stored
		for i, n := range c.stacks {
			blocks = append(blocks, &stored{Block: &block.Block{Meta: block.Meta{Start: int64(i), Stacks: n, Series: c.series[i]}}})
		}
		slices.Reverse(blocks)
		got := [][]int64{}
		for _, batch := range batches(blocks) {
			var starts []int64
			for _, b := range batch {
				starts = append(starts, b.Start)
			}
			got = append(got, starts)
		}
		if fmt.Sprint(got) != c.want {
			t.Errorf("%d stacks and %d series are merged as %v, want %s", c.stacks, c.series, got, c.want)
		}
	}
}
