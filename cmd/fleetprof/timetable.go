// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/fleetprof/fleetprof/storeclient"
)

// neededLabels are those that have to be asked for, so that labels can be told: handler
// stands for several.
func neededLabels(labels []string) (needed []string) {
	for _, name := range labels {
		if name == handlerLabel {
			needed = append(needed, handlerParts[:]...)
		} else {
			needed = append(needed, name)
		}
	}
	slices.Sort(needed)
	return slices.Compact(needed)
}

// timeTable is sums over time, a column for each group.
type timeTable struct {
	unit   string
	groups []column
}

type column struct {
	name  string
	total int64
	at    map[int64]int64 // by the begin of the step, in nanoseconds
}

// newTimeTable makes a column of each combination of labels, the largest first. The groups of
// s are by the labels needed for these.
func newTimeTable(s *storeclient.Series, needed, labels []string) *timeTable {
	t := &timeTable{unit: s.Unit}
	index := map[string]int{}
	for _, g := range s.Groups {
		name := groupName(g, needed, labels)
		i, ok := index[name]
		if !ok {
			i = len(t.groups)
			index[name] = i
			t.groups = append(t.groups, column{name: name, at: map[int64]int64{}})
		}
		t.groups[i].add(g.Points)
	}
	slices.SortFunc(t.groups, func(a, b column) int { return cmp.Or(cmp.Compare(b.total, a.total), cmp.Compare(a.name, b.name)) })
	return t
}

func (c *column) add(points []storeclient.Point) {
	for _, p := range points {
		c.at[p.Time.UnixNano()] += p.Value
		c.total += p.Value
	}
}

func groupName(g storeclient.Group, needed, labels []string) string {
	value := func(name string) string { return g.Values[slices.Index(needed, name)] }
	values := make([]string, len(labels))
	for i, name := range labels {
		if name == handlerLabel {
			values[i] = handlerOf(value)
		} else {
			values[i] = value(name)
		}
		values[i] = cmp.Or(printable(values[i]), "(none)")
	}
	return strings.Join(values, " ")
}

// print writes a row for each step of a query, at most so many columns, and their sums.
func (t *timeTable) print(w io.Writer, q storeclient.Query, step time.Duration, columns int) error {
	shown := t.groups
	if more := len(shown) - columns; more > 0 {
		rest := column{name: fmt.Sprintf("(%d more)", more), at: map[int64]int64{}}
		for _, g := range shown[columns:] {
			for at, v := range g.at {
				rest.at[at] += v
			}
			rest.total += g.total
		}
		shown = append(slices.Clone(shown[:columns]), rest)
	}
	out := bufio.NewWriter(w)
	row := func(first string, total int64, value func(c column) int64) {
		fmt.Fprintf(out, "%-20s %10s", first, format(total, t.unit))
		for _, c := range shown {
			if c.name != "" {
				fmt.Fprintf(out, "  %*s", max(8, utf8.RuneCountInString(c.name)), format(value(c), t.unit))
			}
		}
		fmt.Fprintln(out)
	}
	fmt.Fprintf(out, "%-20s %10s", "from", "total")
	for _, c := range shown {
		if c.name != "" {
			fmt.Fprintf(out, "  %8s", c.name)
		}
	}
	fmt.Fprintln(out)
	all := func(of func(c column) int64) (sum int64) {
		for _, c := range t.groups {
			sum += of(c)
		}
		return sum
	}
	for at := q.From; at.Before(q.To); at = at.Add(step) {
		value := func(c column) int64 { return c.at[at.UnixNano()] }
		row(at.UTC().Format(time.RFC3339), all(value), value)
	}
	total := func(c column) int64 { return c.total }
	row("(total)", all(total), total)
	return out.Flush()
}
