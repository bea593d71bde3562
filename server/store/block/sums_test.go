// SPDX-License-Identifier: Apache-2.0

package block_test

import (
	"errors"
	"fmt"
	"maps"
	"testing"

	"github.com/fleetprof/fleetprof/server/columns"
	"github.com/fleetprof/fleetprof/server/dictionary"
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

// A series of so many rows that they are written in several runs has sums of all of them: the last run, in which there
// are none to be had, is no exception.
func TestSumsOfRuns(t *testing.T) {
	const twice, once = 3 << 19, 1000 // stacks, by windows that they have rows in
	b := write(t, tree{twice: twice, once: once})
	index, err := b.Index()
	if err != nil {
		t.Fatal(err)
	}
	reader, err := b.Rows()
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	for s := range index.Series.All() {
		var rows, sums int64
		count := func(to *int64) func(block.Rows) error {
			return func(r block.Rows) error {
				for _, n := range r.Count {
					*to += n
				}
				return nil
			}
		}
		if err := errors.Join(reader.Read(s, count(&rows)), reader.ReadSums(s, count(&sums))); err != nil {
			t.Fatal(err)
		}
		if rows != 2*twice+once || sums != rows {
			t.Errorf("rows have %d samples, sums %d, want %d", rows, sums, 2*twice+once)
		}
	}
}

// tree is a part with one series, of whose stacks the first have rows in two windows and the others in one.
type tree struct {
	part
	twice, once int
}

func (p tree) Index() (*block.Index, error) {
	x, err := part{make([]int64, 2), make([]int64, 2)}.Index()
	x.Series = block.SeriesList{}
	x.Series.Add(0, 0, int64(2*p.twice+p.once), 0)
	return x, err
}

func (p tree) Symbols() (dictionary.Symbols, error) {
	return dictionary.AllSymbols{Dictionary: &dictionary.Dictionary{
		Strings: []string{"", "main"}, Functions: []columns.Function{{Name: 1}},
		Locations: []dictionary.Location{{Lines: []columns.Line{{Line: 1}}}, {Lines: []columns.Line{{Line: 2}}}},
	}}, nil
}

func (p tree) Stacks(int) (block.StackReader, error) {
	nodes := make(dictionary.AllNodes, p.twice+p.once+1)
	for i := range nodes {
		nodes[i] = dictionary.Node{Parent: uint32(i) / 2, Location: uint32(i) % 2}
	}
	return stacks{nodes}, nil
}

func (p tree) Rows() (block.RowReader, error) { return p, nil }

func (p tree) Read(_ block.Series, f func(block.Rows) error) error {
	for i := range p.twice + p.once {
		r := block.Rows{Stack: []uint32{uint32(i + 1), uint32(i + 1)}, Window: []uint32{0, 1}, Value: []int64{1, 1}, Count: []int64{1, 1}}
		if i >= p.twice {
			r = block.Rows{Stack: r.Stack[:1], Window: r.Window[:1], Value: r.Value[:1], Count: r.Count[:1]}
		}
		if err := f(r); err != nil {
			return err
		}
	}
	return nil
}
