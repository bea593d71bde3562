// SPDX-License-Identifier: Apache-2.0

package query

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"testing"
)

// The largest nodes are the first of all when they are sorted, also where many are as large as each other.
func TestLargest(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	tr := &tree{amounts: make([][]amount, 1)}
	tr.newNode(node{}, 0)
	for i := range uint32(5000) {
		id := tr.child(random.Uint32N(i+1), i)
		tr.amounts[0][id].self = random.Int64N(3)
	}
	tr.sumUp(tr.amounts[0])
	all := make([]uint32, len(tr.nodes))
	for i := range all {
		all[i] = uint32(i)
	}
	slices.SortFunc(all, func(a, b uint32) int {
		return cmp.Or(cmp.Compare(tr.amounts[0][b].total, tr.amounts[0][a].total), cmp.Compare(a, b))
	})
	for _, limit := range []int{1, 2, 10, 100, 2499, 2500, 2501, 5000, 5001, 9000} {
		if got := tr.largest(limit); !slices.Equal(got, all[:min(limit, len(all))]) {
			t.Errorf("limit %d: %d nodes, which are not the largest", limit, len(got))
		}
	}
}
