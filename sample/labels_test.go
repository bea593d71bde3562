// SPDX-License-Identifier: Apache-2.0

package sample

import (
	"maps"
	"slices"
	"testing"
)

// Labels come in the order of their names, wherever they are kept, and each once.
func TestLabelsEach(t *testing.T) {
	l := Labels{
		Executable: "a", PID: "1", Thread: "t", Container: "c", Unit: "u.service", Service: "s",
		More: NewLabelSet(map[string]string{
			LabelPod: "p", LabelContainerName: "n", LabelImage: "i", LabelECSTask: "e", LabelPodPrefix + "team": "green", "zone": "z",
		}),
		Handler: Handler{Attribution: Exact, HTTPMethod: "GET", HTTPRoute: "/", Source: SourceLabel},
	}
	var names []string
	l.Each(func(name, value string) {
		names = append(names, name)
		if value == "" || l.Get(name) != value {
			t.Errorf("%s is %q, and %q by Get", name, value, l.Get(name))
		}
	})
	if !slices.IsSorted(names) || len(names) != 16 || len(slices.Compact(names)) != 16 {
		t.Errorf("%d labels: %v", len(names), names)
	}
}

func TestLabelSet(t *testing.T) {
	a := map[string]string{"b": "2", "a": "1"}
	s := NewLabelSet(map[string]string{"a": "1", "b": "2", "empty": "", "": "nameless", "nul": "a\x00b", "n\x00l": "x"})
	got := make(map[string]string)
	s.Each(func(name, value string) { got[name] = value })
	if !maps.Equal(got, a) || s != NewLabelSet(a) {
		t.Errorf("%v, want %v", got, a)
	}
	if got := s.With(NewLabelSet(map[string]string{"b": "3", "c": "4"})); got != NewLabelSet(map[string]string{"a": "1", "b": "3", "c": "4"}) {
		t.Errorf("with others: %+v", got)
	}
	if s.With(LabelSet{}) != s || (LabelSet{}).With(s) != s || s.Get("b") != "2" || s.Get("c") != "" {
		t.Errorf("%+v with nothing is something else", s)
	}
}
