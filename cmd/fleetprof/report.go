// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/pprof/profile"
)

// report prints a profile of sample types samples/count and cpu/nanoseconds.
type report struct {
	p            *profile.Profile
	samples, cpu int64
}

func newReport(p *profile.Profile) (*report, error) {
	if len(p.SampleType) < 2 || p.SampleType[1].Unit != "nanoseconds" {
		return nil, errors.New("not a CPU profile of samples and nanoseconds")
	}
	r := &report{p: p}
	for _, s := range p.Sample {
		r.samples += s.Value[0]
		r.cpu += s.Value[1]
	}
	return r, nil
}

// names are the functions of a stack, innermost first.
func names(s *profile.Sample) (out []string) {
	for _, loc := range s.Location {
		for _, line := range loc.Line {
			out = append(out, line.Function.Name)
		}
	}
	return out
}

func (r *report) head(w io.Writer) {
	fmt.Fprintf(w, "%d samples, %s of CPU time, %s from %s\n", r.samples, seconds(r.cpu),
		time.Duration(r.p.DurationNanos).Round(time.Second), time.Unix(0, r.p.TimeNanos).UTC().Format(time.RFC3339))
}

// top prints the functions with the most CPU time of their own; cum is the
// time of a function with all it called.
func (r *report) top(w io.Writer, lines int) error {
	type row struct{ flat, cum int64 }
	rows := make(map[string]*row)
	at := func(name string) *row {
		if rows[name] == nil {
			rows[name] = new(row)
		}
		return rows[name]
	}
	for _, s := range r.p.Sample {
		stack := names(s)
		if len(stack) == 0 {
			continue
		}
		at(stack[0]).flat += s.Value[1]
		slices.Sort(stack)
		for _, name := range slices.Compact(stack) { // once, however often it recurs
			at(name).cum += s.Value[1]
		}
	}
	out := bufio.NewWriter(w)
	r.head(out)
	fmt.Fprintf(out, "%10s %6s %10s %6s  function\n", "flat", "flat%", "cum", "cum%")
	byFlat := func(a, b string) int {
		return cmp.Or(cmp.Compare(rows[b].flat, rows[a].flat), cmp.Compare(rows[b].cum, rows[a].cum), cmp.Compare(a, b))
	}
	sorted := slices.SortedFunc(maps.Keys(rows), byFlat)
	for _, name := range sorted[:min(lines, len(sorted))] {
		v := rows[name]
		fmt.Fprintf(out, "%10s %6s %10s %6s  %s\n", seconds(v.flat), r.share(v.flat), seconds(v.cum), r.share(v.cum), printable(name))
	}
	return out.Flush()
}

// by prints CPU time by the values of one label.
func (r *report) by(w io.Writer, label string, lines int) error {
	sums := make(map[string]int64)
	for _, s := range r.p.Sample {
		value := strings.Join(s.Label[label], ",")
		if value == "" {
			value = "(no " + label + ")"
		}
		sums[value] += s.Value[1]
	}
	out := bufio.NewWriter(w)
	r.head(out)
	fmt.Fprintf(out, "%10s %6s  %s\n", "cpu", "cpu%", label)
	sorted := slices.SortedFunc(maps.Keys(sums), func(a, b string) int {
		return cmp.Or(cmp.Compare(sums[b], sums[a]), cmp.Compare(a, b))
	})
	for _, value := range sorted[:min(lines, len(sorted))] {
		fmt.Fprintf(out, "%10s %6s  %s\n", seconds(sums[value]), r.share(sums[value]), printable(value))
	}
	return out.Flush()
}

// folded prints what flame graph tools read: `outer;inner 12`.
func (r *report) folded(w io.Writer) error {
	sums := make(map[string]int64)
	for _, s := range r.p.Sample {
		stack := names(s)
		slices.Reverse(stack)
		for i, name := range stack {
			stack[i] = strings.ReplaceAll(printable(name), ";", ":")
		}
		sums[strings.Join(stack, ";")] += s.Value[0]
	}
	out := bufio.NewWriter(w)
	for _, stack := range slices.Sorted(maps.Keys(sums)) {
		fmt.Fprintf(out, "%s %d\n", stack, sums[stack])
	}
	return out.Flush()
}

func (r *report) share(nanoseconds int64) string {
	if r.cpu == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f%%", 100*float64(nanoseconds)/float64(r.cpu))
}

func seconds(nanoseconds int64) string { return fmt.Sprintf("%.2fs", float64(nanoseconds)/1e9) }

// printable takes the control characters out of a name that a program chose:
// a terminal would obey them.
func printable(name string) string {
	return strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f || (c >= 0x80 && c < 0xa0) {
			return '�'
		}
		return c
	}, name)
}
