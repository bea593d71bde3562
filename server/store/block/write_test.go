// SPDX-License-Identifier: Apache-2.0

package block_test

import (
	"math"
	"path/filepath"
	"testing"
	"time"

	"github.com/fleetprof/fleetprof/server/columns"
	"github.com/fleetprof/fleetprof/server/dictionary"
	"github.com/fleetprof/fleetprof/server/store/block"
)

// part is a part with one series of one stack, and a window for each row.
type part struct{ value, count []int64 }

func (p part) Index() (*block.Index, error) {
	x := &block.Index{
		Types: []block.Type{{Name: "cpu", Sample: "cpu", Unit: "nanoseconds"}},
	}
	x.Series.Add(0, 0, int64(len(p.value)), 0)
	x.LabelSets = 1
	for i := range p.value {
		start := int64(i) * int64(time.Second)
		x.Windows = append(x.Windows, block.Window{Start: start, End: start + int64(time.Second), Profiles: 1, Source: "a"})
	}
	return x, nil
}

func (p part) Labels(int) (block.Labels, error) {
	d := &dictionary.Dictionary{Strings: []string{"", "host_name", "a"}}
	d.LabelSets.Add(nil, columns.Label{Key: 1, Text: 2})
	return block.LabelsOf(d), nil
}

func (p part) Symbols() (dictionary.Symbols, error) {
	return dictionary.AllSymbols{Dictionary: &dictionary.Dictionary{
		Strings: []string{"", "main"}, Functions: []columns.Function{{Name: 1}},
		Locations: []dictionary.Location{{Lines: []columns.Line{{}}}},
	}}, nil
}

func (p part) Stacks(int) (block.StackReader, error) {
	return stacks{make(dictionary.AllNodes, 2)}, nil
}

type stacks struct{ dictionary.AllNodes }

func (stacks) Close() error { return nil }

func (p part) Rows() (block.RowReader, error) { return p, nil }
func (p part) Close() error                   { return nil }

func (p part) Read(_ block.Series, f func(block.Rows) error) error {
	r := block.Rows{Value: p.value, Count: p.count}
	for i := range p.value {
		r.Stack, r.Window = append(r.Stack, 1), append(r.Window, uint32(i))
	}
	return f(r)
}

func (p part) ReadSums(block.Series, func(block.Rows) error) error { return nil } // it has none

// rows gives the values and counts of all rows of a block.
func rows(t testing.TB, b *block.Block) (value, count []int64) {
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
	for s := range index.Series.All() {
		err := reader.Read(s, func(r block.Rows) error {
			value, count = append(value, r.Value...), append(count, r.Count...)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return value, count
}

// Sums that are too large for 63 bits stay at the largest number, and never become small or
// negative.
func TestSumsSaturate(t *testing.T) {
	for _, c := range []struct {
		parts                []block.Part
		wantValue, wantCount int64
	}{
		{[]block.Part{part{[]int64{1, 2, 3}, []int64{4, 5, 6}}}, 6, 15},
		{[]block.Part{part{[]int64{math.MaxInt64 - 1, 1}, []int64{1, math.MaxInt64}}}, math.MaxInt64, math.MaxInt64},
		{[]block.Part{part{[]int64{math.MaxInt64, 7}, []int64{1, 1}}, part{[]int64{math.MaxInt64, 9}, []int64{2, 2}}}, math.MaxInt64, 6},
	} {
		dir := filepath.Join(t.TempDir(), "block")
		if err := block.Write(t.Context(), dir, block.Plan{Parts: c.parts, Resolution: time.Minute}); err != nil {
			t.Fatal(err)
		}
		b, err := block.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		value, count := rows(t, b)
		if len(value) != 1 || value[0] != c.wantValue || count[0] != c.wantCount {
			t.Errorf("rows are %d and %d, want %d and %d", value, count, c.wantValue, c.wantCount)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}
}
