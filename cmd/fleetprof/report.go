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
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/pprof/profile"

	"github.com/fleetprof/fleetprof/sample"
	"github.com/fleetprof/fleetprof/symbolize"
)

// report prints a profile of one sample type, which is CPU time if there is a choice.
type report struct {
	p *profile.Profile
	// value is the index of the sample type shown, count that of samples/count, or -1.
	value, count   int
	samples, total int64
	// attributed says that the samples tell about requests.
	attributed bool
}

func newReport(p *profile.Profile) (*report, error) {
	if len(p.SampleType) == 0 {
		return nil, errors.New("a profile without sample types")
	}
	named := func(name string) int {
		return slices.IndexFunc(p.SampleType, func(t *profile.ValueType) bool { return t.Type == name })
	}
	r := &report{p: p, value: len(p.SampleType) - 1, count: named("samples")} // pprof shows the last, too
	if i := named(p.DefaultSampleType); i >= 0 {
		r.value = i
	}
	for _, s := range p.Sample {
		if r.count >= 0 {
			r.samples += s.Value[r.count]
		}
		r.total += s.Value[r.value]
		r.attributed = r.attributed || len(s.Label[sample.LabelAttribution]) > 0
	}
	return r, nil
}

// names are the functions of a stack, innermost first; of code without a name, file and offset.
func names(s *profile.Sample) (out []string) {
	for _, loc := range s.Location {
		if len(loc.Line) == 0 {
			out = append(out, placeOf(loc))
		}
		for _, line := range loc.Line {
			out = append(out, line.Function.Name)
		}
	}
	return out
}

// placeOf says where code is of which there is nothing else to tell.
func placeOf(loc *profile.Location) string {
	m := loc.Mapping
	if m == nil || m.File == "" {
		return fmt.Sprintf("[unknown]+%#x", loc.Address)
	}
	return symbolize.OffsetName(m.File, loc.Address-m.Start+m.Offset)
}

func (r *report) head(w io.Writer) {
	if r.count >= 0 {
		fmt.Fprintf(w, "%d samples, ", r.samples)
	}
	what := r.p.SampleType[r.value].Type
	if what == "cpu" {
		what = "CPU time"
	}
	fmt.Fprintf(w, "%s of %s, %s from %s\n", r.format(r.total), printable(what),
		time.Duration(r.p.DurationNanos).Round(time.Second), time.Unix(0, r.p.TimeNanos).UTC().Format(time.RFC3339))
}

// usage is what a function took: flat by itself, cum with all that it called.
type usage struct{ flat, cum int64 }

// functions sums up by function.
func (r *report) functions() map[string]usage {
	all := make(map[string]usage)
	for _, s := range r.p.Sample {
		stack := names(s)
		if len(stack) == 0 {
			continue
		}
		v := s.Value[r.value]
		leaf := all[stack[0]]
		leaf.flat += v
		all[stack[0]] = leaf
		slices.Sort(stack)
		for _, name := range slices.Compact(stack) { // once, however often it recurs
			u := all[name]
			u.cum += v
			all[name] = u
		}
	}
	return all
}

// top prints the functions with the most CPU time of their own.
func (r *report) top(w io.Writer, lines int) error {
	rows := r.functions()
	out := bufio.NewWriter(w)
	r.head(out)
	fmt.Fprintf(out, "%10s %6s %10s %6s  function\n", "flat", "flat%", "cum", "cum%")
	byFlat := func(a, b string) int {
		return cmp.Or(cmp.Compare(rows[b].flat, rows[a].flat), cmp.Compare(rows[b].cum, rows[a].cum), cmp.Compare(a, b))
	}
	sorted := slices.SortedFunc(maps.Keys(rows), byFlat)
	for _, name := range sorted[:min(lines, len(sorted))] {
		v := rows[name]
		fmt.Fprintf(out, "%10s %6s %10s %6s  %s\n", r.format(v.flat), r.share(v.flat), r.format(v.cum), r.share(v.cum), printable(name))
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
		sums[key].add(r.sumOf(s))
		all.add(r.sumOf(s))
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

// handlerParts are the labels that handlerLabel looks at.
var handlerParts = [...]string{sample.LabelRPCMethod, sample.LabelHTTPRoute, sample.LabelHTTPMethod, sample.LabelURLTemplate}

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

func (r *report) sumOf(s *profile.Sample) sum {
	out := sum{cpu: s.Value[r.value]}
	part := slices.Index(certainties[:], sample.Attribution(strings.Join(s.Label[sample.LabelAttribution], ",")))
	if part < 0 {
		part = len(certainties)
	}
	out.parts[part] = s.Value[r.value]
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
	if r.p.SampleType[r.value].Type != "cpu" {
		head = []string{"value", "value%"}
	}
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
	row := []string{t.report.format(s.cpu), t.report.share(s.cpu)}
	for _, i := range t.parts {
		cell := "-"
		if s.parts[i] != 0 {
			cell = t.report.format(s.parts[i])
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

// folded prints what flame graph tools read: `outer;inner 12`. The numbers are samples where
// a profile has them.
func (r *report) folded(w io.Writer) error {
	sums := make(map[string]int64)
	value := r.value
	if r.count >= 0 {
		value = r.count
	}
	for _, s := range r.p.Sample {
		stack := names(s)
		slices.Reverse(stack)
		for i, name := range stack {
			stack[i] = strings.ReplaceAll(printable(name), ";", ":")
		}
		sums[strings.Join(stack, ";")] += s.Value[value]
	}
	out := bufio.NewWriter(w)
	for _, stack := range slices.Sorted(maps.Keys(sums)) {
		fmt.Fprintf(out, "%s %d\n", stack, sums[stack])
	}
	return out.Flush()
}

func (r *report) share(value int64) string {
	if r.total == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f%%", r.percent(value))
}

// percent is of the total; 0 if that is 0.
func (r *report) percent(value int64) float64 {
	if r.total == 0 {
		return 0
	}
	return 100 * float64(value) / float64(r.total)
}

func (r *report) format(value int64) string { return format(value, r.p.SampleType[r.value].Unit) }

// format writes a value in its unit: time in seconds, bytes in MiB, all else as a number.
func format(value int64, unit string) string {
	switch unit {
	case "nanoseconds":
		return fmt.Sprintf("%.2fs", float64(value)/1e9)
	case "bytes":
		return fmt.Sprintf("%.2fMiB", float64(value)/(1<<20))
	}
	return strconv.FormatInt(value, 10)
}

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
