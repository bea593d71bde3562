// SPDX-License-Identifier: Apache-2.0

package dictionary_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/fleetprof/fleetprof/server/columns"
	"github.com/fleetprof/fleetprof/server/dictionary"
)

// labelled makes a dictionary with sets of labels, each of which is written as name=value.
func labelled(known map[columns.Label]uint32, sets ...[][2]string) *dictionary.Dictionary {
	d := &dictionary.Dictionary{Strings: []string{""}}
	number := func(s string) uint32 {
		i := slices.Index(d.Strings, s)
		if i < 0 {
			i = len(d.Strings)
			d.Strings = append(d.Strings, s)
		}
		return uint32(i)
	}
	for _, set := range sets {
		var labels []columns.Label
		for _, l := range set {
			labels = append(labels, columns.Label{Key: number(l[0]), Text: number(l[1])})
		}
		d.LabelSets.Add(known, labels...)
	}
	return d
}

func labelsOf(d *dictionary.Dictionary, set uint32) (all []string) {
	for i := range d.LabelSets.Count(set) {
		l := d.LabelSets.At(set, i)
		all = append(all, d.Strings[l.Key]+"="+d.Strings[l.Text])
	}
	slices.Sort(all)
	return all
}

// Sets with the same labels are one, whatever dictionary they come from and in whatever order their
// labels are; other sets are others.
func TestLabelSetsAreTranslated(t *testing.T) {
	host, a, b := [2]string{"host", "h"}, [2]string{"pod", "a"}, [2]string{"pod", "b"}
	one := labelled(nil, [][2]string{host, a}, nil, [][2]string{a})
	two := labelled(map[columns.Label]uint32{}, [][2]string{b}, [][2]string{a, host}, [][2]string{b, host}, nil)
	to := dictionary.New()
	numbers := map[string]uint32{}
	for _, from := range []*dictionary.Dictionary{one, two, one} {
		translation := to.Translate(from)
		for set := range uint32(from.LabelSets.Len()) {
			want := labelsOf(from, set)
			got := translation.LabelSet(set)
			if have := labelsOf(&to.Dictionary, got); !slices.Equal(have, want) {
				t.Errorf("%v has become %v", want, have)
			}
			key := fmt.Sprint(want)
			if before, ok := numbers[key]; ok && before != got {
				t.Errorf("%v is %d and %d", want, before, got)
			}
			numbers[key] = got
		}
	}
	if len(numbers) != 5 || to.LabelSets.Len() != 5 {
		t.Errorf("%d sets have become %d, want 5", len(numbers), to.LabelSets.Len())
	}
	if v := two.Label(2, "pod"); v != "b" {
		t.Errorf("the pod is %q", v)
	}
}

// Sets that differ in labels that are left out are one, and nothing of those is taken over.
func TestLabelsAreLeftOut(t *testing.T) {
	host, a, b := [2]string{"host", "h"}, [2]string{"pod", "a"}, [2]string{"pod", "b"}
	from := labelled(nil, [][2]string{host, a}, [][2]string{b, host}, nil, [][2]string{a}, [][2]string{{"zone", "z"}, host})
	for _, c := range []struct {
		names []string
		want  []string // of each set
	}{
		{nil, []string{"[]", "[]", "[]", "[]", "[]"}},
		{[]string{"host"}, []string{"[host=h]", "[host=h]", "[]", "[]", "[host=h]"}},
		{[]string{"zone", "pod", "none"}, []string{"[pod=a]", "[pod=b]", "[]", "[pod=a]", "[zone=z]"}},
	} {
		to := dictionary.New()
		translation := to.Translate(from).WithLabels(c.names)
		numbers := make(map[string]uint32)
		for set, want := range c.want {
			got := translation.LabelSet(uint32(set))
			if have := fmt.Sprint(labelsOf(&to.Dictionary, got)); have != want {
				t.Errorf("only %v: set %d has become %s, want %s", c.names, set, have, want)
			}
			if before, ok := numbers[want]; ok && before != got {
				t.Errorf("only %v: %s is %d and %d", c.names, want, before, got)
			}
			numbers[want] = got
		}
		if to.LabelSets.Len() != len(numbers) || slices.Contains(to.Strings, "h") != slices.Contains(c.names, "host") {
			t.Errorf("only %v: %d sets and %q", c.names, to.LabelSets.Len(), to.Strings)
		}
	}
}

// Labels that many sets have take their memory once.
func TestLabelsAreHeldOnce(t *testing.T) {
	known := map[columns.Label]uint32{}
	d := &dictionary.Dictionary{Strings: []string{""}}
	for pid := range 1000 {
		var labels []columns.Label
		for key := range uint32(10) {
			labels = append(labels, columns.Label{Key: key, Text: 7})
		}
		d.LabelSets.Add(known, append(labels, columns.Label{Key: 11, Number: int64(pid)})...)
	}
	if size := d.Size(); size > 1000*80 {
		t.Errorf("1,000 sets of 11 labels take %d bytes", size)
	}
}
