// SPDX-License-Identifier: Apache-2.0

package block_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/fleetprof/fleetprof/server/columns"
	"github.com/fleetprof/fleetprof/server/dictionary"
	"github.com/fleetprof/fleetprof/server/store/block"
)

// Label sets that differ in their process only are one, whose rows have it. What is no such number stays in its
// set, and all of it stays the same when blocks are merged.
func TestProcesses(t *testing.T) {
	d := &dictionary.Dictionary{Strings: []string{"", "process_pid", "service_name", "api"}}
	pid := func(text string) columns.Label {
		d.Strings = append(d.Strings, text)
		return columns.Label{Key: 1, Text: uint32(len(d.Strings) - 1)}
	}
	api := columns.Label{Key: 2, Text: 3}
	for _, set := range [][]columns.Label{
		{api}, {api, pid("1")}, {pid("42"), api}, {api, pid("4294967295")}, {pid("7")},
		{api, pid("4294967296")}, {api, pid("0")}, {api, pid("007")}, {api, pid("-1")}, {api, pid("+5")}, {api, pid("x")},
		{api, pid("1"), pid("2")}, {api, {Key: 1, Number: 5}}, {api, pid("3"), {Key: 1, Number: 5}},
	} {
		d.LabelSets.Add(nil, set...)
	}
	p := labelled{dict: d}
	want := rowsByLabels(t, p)
	b := write(t, p)
	if sets := d.LabelSets.Len() - 3; b.LabelSets != sets || !b.Processes {
		t.Errorf("%d label sets, want %d; processes: %v", b.LabelSets, sets, b.Processes)
	}
	if got := rowsByLabels(t, b); !slices.Equal(got, want) {
		t.Errorf("a block says\n%q\nwant\n%q", got, want)
	}
	want = slices.Sorted(slices.Values(append(want, want...)))
	if got := rowsByLabels(t, write(t, b, p)); !slices.Equal(got, want) { // with windows of its own
		t.Errorf("one of a block and the same again says\n%q\nwant\n%q", got, want)
	}
}

// rowsByLabels gives the labels of all rows, sorted.
func rowsByLabels(t *testing.T, p block.Part) (all []string) {
	t.Helper()
	index, err := p.Index()
	if err != nil {
		t.Fatal(err)
	}
	labels, err := p.Labels(index.LabelSets)
	if err != nil {
		t.Fatal(err)
	}
	d, err := labels.Sets(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	reader, err := p.Rows()
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	for s := range index.Series.All() {
		var set []string
		for i := range d.LabelSets.Count(s.LabelSet) {
			l := d.LabelSets.At(s.LabelSet, i)
			set = append(set, fmt.Sprintf("%s=%s %d", d.Strings[l.Key], d.Strings[l.Text], l.Number))
		}
		err := reader.Read(s, func(r block.Rows) error {
			for process, r := range r.Processes() {
				texts := slices.Clone(set)
				if process != 0 {
					texts = append(texts, fmt.Sprintf("process_pid=%s 0", block.ProcessText(process)))
				}
				slices.Sort(texts)
				all = append(all, slices.Repeat([]string{strings.Join(texts, ", ")}, len(r.Stack))...)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(all)
	return all
}
