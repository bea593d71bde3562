// SPDX-License-Identifier: Apache-2.0

package block_test

import (
	"fmt"
	"maps"
	"testing"

	"github.com/fleetprof/fleetprof/server/store/block"
)

// The sums of a series are those of its rows by process and stack, and are there where they are at most half as many.
func TestSums(t *testing.T) {
	for _, c := range []struct {
		windows int
		want    bool
	}{{1, false}, {2, true}, {5, true}} {
		b := open(t, sealed(t, c.windows))
		rows, sums := sumsOf(t, b)
		switch {
		case len(rows) != 40:
			t.Errorf("%d windows: %d different rows", c.windows, len(rows))
		case c.want && !maps.Equal(rows, sums):
			t.Errorf("%d windows: sums are %v, of rows they are %v", c.windows, sums, rows)
		case !c.want && len(sums) > 0:
			t.Errorf("%d windows: there are sums: %v", c.windows, sums)
		}
		if b.Sums != int64(len(sums)) {
			t.Errorf("%d windows: %d sums, and there are %d", c.windows, b.Sums, len(sums))
		}
	}
}

// sumsOf adds up the rows of each label set, process and stack of a block, and the same of its sums.
func sumsOf(t *testing.T, b *block.Block) (rows, sums map[string][2]int64) {
	t.Helper()
	index, err := b.Index()
	if err != nil {
		t.Fatal(err)
	}
	reader, err := b.Rows()
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	rows, sums = map[string][2]int64{}, map[string][2]int64{}
	for s := range index.Series.All() {
		addTo := func(to map[string][2]int64) func(r block.Rows) error {
			return func(r block.Rows) error {
				for process, r := range r.Processes() {
					for i, stack := range r.Stack {
						key := fmt.Sprint(s.LabelSet, process, stack)
						to[key] = [2]int64{to[key][0] + r.Count[i], to[key][1] + r.Value[i]}
					}
				}
				return nil
			}
		}
		if err := reader.Read(s, addTo(rows)); err != nil {
			t.Fatal(err)
		}
		if err := reader.ReadSums(s, addTo(sums)); err != nil {
			t.Fatal(err)
		}
	}
	return rows, sums
}
