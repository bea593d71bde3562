// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"

	"github.com/google/pprof/profile"
)

// difference is after less before, as go tool pprof -diff_base makes it: samples of before
// are negative and have the label pprof::base, so that pprof takes shares of their total.
func difference(before, after *profile.Profile) (*profile.Profile, error) {
	before = before.Copy()
	before.SetLabel("pprof::base", []string{"true"})
	before.Scale(-1)
	if err := sameTypes(before, after); err != nil {
		return nil, err
	}
	return profile.Merge([]*profile.Profile{before, after})
}

func sameTypes(a, b *profile.Profile) error {
	same := func(x, y *profile.ValueType) bool { return *x == *y }
	if !slices.EqualFunc(a.SampleType, b.SampleType, same) {
		return errOtherType
	}
	return nil
}

// diff is how the functions of two profiles have changed.
type diff struct {
	before, after *report
	rows          []change
}

// change is one function in both.
type change struct {
	name          string
	before, after usage
}

// newDiff compares. Shares are of each profile's own total, so that times of different length
// and load compare.
func newDiff(before, after *profile.Profile) (*diff, error) {
	if err := sameTypes(before, after); err != nil {
		return nil, err
	}
	b, err := newReport(before)
	if err != nil {
		return nil, err
	}
	a, err := newReport(after)
	if err != nil {
		return nil, err
	}
	d := &diff{before: b, after: a}
	was, is := b.functions(), a.functions()
	all := maps.Clone(was)
	maps.Copy(all, is)
	for name := range all {
		d.rows = append(d.rows, change{name, was[name], is[name]})
	}
	slices.SortFunc(d.rows, func(x, y change) int {
		return cmp.Or(
			cmp.Compare(math.Abs(d.points(y.before.flat, y.after.flat)), math.Abs(d.points(x.before.flat, x.after.flat))),
			cmp.Compare(math.Abs(d.points(y.before.cum, y.after.cum)), math.Abs(d.points(x.before.cum, x.after.cum))),
			cmp.Compare(x.name, y.name))
	})
	return d, nil
}

// points is by how many percent points of the total something has changed.
func (d *diff) points(before, after int64) float64 {
	return d.after.percent(after) - d.before.percent(before)
}

func (d *diff) print(w io.Writer, lines int) error {
	out := bufio.NewWriter(w)
	fmt.Fprint(out, "before  ")
	d.before.head(out)
	fmt.Fprint(out, "after   ")
	d.after.head(out)
	fmt.Fprintf(out, "%10s %10s %11s %8s %11s %8s  function\n", "before", "after", "flat", "points", "cum", "points")
	for _, row := range d.rows[:min(lines, len(d.rows))] {
		fmt.Fprintf(out, "%10s %10s", d.before.format(row.before.flat), d.after.format(row.after.flat))
		for _, v := range [][2]int64{{row.before.flat, row.after.flat}, {row.before.cum, row.after.cum}} {
			change := d.after.format(v[1] - v[0])
			if v[1] > v[0] {
				change = "+" + change
			}
			fmt.Fprintf(out, " %11s %+8.1f", change, d.points(v[0], v[1]))
		}
		fmt.Fprintf(out, "  %s\n", printable(row.name))
	}
	return out.Flush()
}
