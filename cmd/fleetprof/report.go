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
	"unicode/utf8"

	"github.com/google/pprof/profile"

	"github.com/fleetprof/fleetprof/sample"
)

// report prints a profile of sample types samples/count and cpu/nanoseconds.
type report struct {
	p            *profile.Profile
	samples, cpu int64
	// attributed says that the samples tell about requests.
	attributed bool
}

func newReport(p *profile.Profile) (*report, error) {
	if len(p.SampleType) < 2 || p.SampleType[1].Unit != "nanoseconds" {
		return nil, errors.New("not a CPU profile of samples and nanoseconds")
	}
	r := &report{p: p}
	for _, s := range p.Sample {
		r.samples += s.Value[0]
		r.cpu += s.Value[1]
		r.attributed = r.attributed || len(s.Label[sample.LabelAttribution]) > 0
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

// by prints CPU time by the values of labels. If the samples tell about
// requests, each row says how certain they are, and the rows add up to the last.
func (r *report) by(w io.Writer, labels []string, lines int) error {
	absent := "(none)"
	if !r.attributed && len(labels) == 1 {
		absent = "(no " + labels[0] + ")"
	}
	sums := make(map[string]*sum) // by the values, with newlines between
	var all, rest sum
	for _, s := range r.p.Sample {
		values := make([]string, len(labels))
		for i, name := range labels {
			values[i] = cmp.Or(printable(labelValue(s, name)), absent)
		}
		key := strings.Join(values, "\n")
		if sums[key] == nil {
			sums[key] = new(sum)
		}
		sums[key].add(sumOf(s))
		all.add(sumOf(s))
	}
	sorted := slices.SortedFunc(maps.Keys(sums), func(a, b string) int {
		return cmp.Or(cmp.Compare(sums[b].cpu, sums[a].cpu), cmp.Compare(a, b))
	})
	t := newByTable(r, labels, all)
	for i, key := range sorted {
		if i < lines {
			t.add(*sums[key], strings.Split(key, "\n")...)
		} else {
			rest.add(*sums[key])
		}
	}
	if r.attributed {
		if more := len(sorted) - lines; more > 0 {
			t.add(rest, fmt.Sprintf("(%d more)", more))
		}
		t.add(all, "(total)")
	}
	out := bufio.NewWriter(w)
	r.head(out)
	t.write(out)
	return out.Flush()
}

// handlerLabel stands for the label that names the handler of a request: the
// first there is of rpc_method, http_route and url_template, the latter two
// after the method.
const handlerLabel = "handler"

func labelValue(s *profile.Sample, name string) string {
	value := func(name string) string { return strings.Join(s.Label[name], ",") }
	if name != handlerLabel {
		return value(name)
	}
	return handlerOf(value)
}

// handlerOf is what handlerLabel stands for, from the values of labels.
func handlerOf(value func(name string) string) string {
	if rpc := value(sample.LabelRPCMethod); rpc != "" {
		return rpc
	}
	path := cmp.Or(value(sample.LabelHTTPRoute), value(sample.LabelURLTemplate))
	if path == "" {
		return ""
	}
	return strings.TrimSpace(value(sample.LabelHTTPMethod) + " " + path)
}

// certainties are in the order of their columns. Every sample of an agent that
// looks at requests has one.
var certainties = [...]sample.Attribution{sample.Exact, sample.Inferred, sample.Ambiguous, sample.Unattributed, sample.Runtime}

// sum is the CPU time of some samples, in nanoseconds: all, and by certainty.
// The last part has none: lost samples, and agents that do not look at requests.
type sum struct {
	cpu   int64
	parts [len(certainties) + 1]int64
}

func sumOf(s *profile.Sample) sum {
	out := sum{cpu: s.Value[1]}
	part := slices.Index(certainties[:], sample.Attribution(strings.Join(s.Label[sample.LabelAttribution], ",")))
	if part < 0 {
		part = len(certainties)
	}
	out.parts[part] = s.Value[1]
	return out
}

func (s *sum) add(o sum) {
	s.cpu += o.cpu
	for i := range s.parts {
		s.parts[i] += o.parts[i]
	}
}

// byTable is a table of sums by labels. A cell but the last of a row is as wide
// as its column.
type byTable struct {
	report *report
	parts  []int // those of sum that have a column
	widths []int // of the columns for labels
	rows   [][]string
}

func newByTable(r *report, labels []string, all sum) *byTable {
	t := &byTable{report: r, widths: make([]int, len(labels))}
	head := []string{"cpu", "cpu%"}
	if r.attributed {
		for i, c := range certainties {
			t.parts = append(t.parts, i)
			head = append(head, string(c))
		}
		if none := len(certainties); all.parts[none] > 0 {
			t.parts = append(t.parts, none)
			head = append(head, "(none)")
		}
	}
	t.addRow(append(head, labels...))
	return t
}

func (t *byTable) add(s sum, values ...string) {
	row := []string{seconds(s.cpu), t.report.share(s.cpu)}
	for _, i := range t.parts {
		cell := "-"
		if s.parts[i] != 0 {
			cell = seconds(s.parts[i])
		}
		row = append(row, cell)
	}
	t.addRow(append(row, values...))
}

func (t *byTable) addRow(row []string) {
	t.rows = append(t.rows, row)
	for i, value := range row[2+len(t.parts):] {
		t.widths[i] = max(t.widths[i], utf8.RuneCountInString(value))
	}
}

func (t *byTable) write(w io.Writer) {
	for _, row := range t.rows {
		fmt.Fprintf(w, "%10s %6s", row[0], row[1])
		numbers, values := row[2:2+len(t.parts)], row[2+len(t.parts):]
		for _, cell := range numbers {
			fmt.Fprintf(w, " %12s", cell)
		}
		for i, value := range values[:len(values)-1] {
			fmt.Fprintf(w, "  %-*s", t.widths[i], value)
		}
		fmt.Fprintf(w, "  %s\n", values[len(values)-1])
	}
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
