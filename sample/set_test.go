// SPDX-License-Identifier: Apache-2.0

package sample

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

// What is put into a Set comes out of it, ordered by name, whatever bytes it is made of.
func TestSet(t *testing.T) {
	for _, labels := range []map[string]string{
		{}, {"a": ""}, {"": "x"}, {"b": "1", "a": "2", "ab": "3"}, {"a\x00": "\x00\xff", "a": "\x01"},
		{"long": strings.Repeat("x", 1<<15), "longer": strings.Repeat("y", 1<<7)},
	} {
		set, got, names := NewSet(labels), make(map[string]string), []string(nil)
		set.Each(func(name, value string) bool {
			got[name] = value
			names = append(names, name)
			return true
		})
		if !maps.Equal(got, labels) || !slices.IsSorted(names) {
			t.Errorf("got %q in the order %q, want %q", got, names, labels)
		}
		for name, want := range labels {
			if value, ok := set.Get(name); !ok || value != want {
				t.Errorf("%q is %q, %v; want %q", name, value, ok, want)
			}
		}
		if _, ok := set.Get("c"); ok {
			t.Errorf("%q has a c", set)
		}
		if set != NewSet(maps.Clone(labels)) || set == NewSet(map[string]string{"other": "x"}) {
			t.Errorf("%q is not comparable", set)
		}
	}
}

func TestMoreLabels(t *testing.T) {
	l := Labels{Executable: "a", Thread: "b", More: NewSet(map[string]string{"service_name": "c", LabelHost: ""})}
	got := make(map[string]string)
	l.Each(func(name, value string) { got[name] = value })
	if want := map[string]string{LabelExecutable: "a", LabelThread: "b", LabelService: "c"}; !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if l.Get(LabelService) != "c" || l.Get(LabelHost) != "" {
		t.Errorf("service %q, host %q", l.Get(LabelService), l.Get(LabelHost))
	}
}

// Every label is either one of a process or one of a sample; whoever adds one to
// Handler must say so in OfSample.
func TestLabelsOfSamples(t *testing.T) {
	l := Labels{Executable: "x", PID: "x", Thread: "x", Container: "x", Handler: Handler{
		Attribution: "x", Source: "x", HTTPMethod: "x", HTTPRoute: "x", URLTemplate: "x", RPCMethod: "x", RPCSystem: "x",
	}}
	process := []string{LabelContainer, LabelExecutable, LabelPID}
	l.Each(func(name, _ string) {
		if OfSample(name) == slices.Contains(process, name) {
			t.Errorf("%s: of single samples is %v", name, OfSample(name))
		}
	})
}
