// SPDX-License-Identifier: Apache-2.0

package reshape

import (
	"cmp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/fleetprof/fleetprof/sample"
	"github.com/fleetprof/fleetprof/server/columns"
)

// Label is one of a series.
type Label struct{ Name, Value string }

const (
	// nameLabel is what kind of profile a series is of.
	nameLabel = "__name__"
	// reserved begins the names that stores keep for themselves.
	reserved = "__"
	// unknownService is what OpenTelemetry calls a service without a name.
	unknownService = "unknown_service"
)

// Name is what Pyroscope and Parca call a profile: a CPU profile is process_cpu.
func Name(p *columns.Profile) string {
	if p.Name == "cpu" {
		return "process_cpu"
	}
	return identifier(p.Name)
}

// identifier makes one that Prometheus' label names and PromQL allow: [a-zA-Z_][a-zA-Z0-9_]*.
func identifier(s string) string {
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, s)
	if name == "" || name[0] >= '0' && name[0] <= '9' {
		name = "_" + name
	}
	return name
}

// labelsOf gives the labels of a label set as they may be those of a series.
func (l Limits) labelsOf(p *columns.Profile, set int, cuts *Cuts) []Label {
	labels := []Label{{nameLabel, Name(p)}}
	for _, from := range p.Labels(set) {
		name, value := p.Strings[from.Key], p.Strings[from.Text]
		if l.Omit != nil && l.Omit(name) || value == "" && from.Number == 0 {
			continue // an empty label is none
		}
		name = identifier(name)
		known := slices.ContainsFunc(labels, func(o Label) bool { return o.Name == name })
		if value == "" || known || strings.HasPrefix(name, reserved) || l.Name > 0 && len(name) > l.Name {
			cuts.Labels++
			continue
		}
		if l.Value > 0 && len(value) > l.Value {
			value = shortened(value, l.Value)
			cuts.Values++
		}
		labels = append(labels, Label{name, value})
	}
	if l.Service {
		labels = withService(labels)
	}
	if l.Names > 0 && len(labels) > l.Names {
		slices.SortStableFunc(labels, func(a, b Label) int { return cmp.Compare(rank(a.Name), rank(b.Name)) })
		cuts.Labels += len(labels) - l.Names
		labels = labels[:l.Names]
	}
	slices.SortFunc(labels, func(a, b Label) int { return cmp.Compare(a.Name, b.Name) })
	return labels
}

// OfThread reports whether a label is of one process or thread: there are too many of them for
// series.
func OfThread(name string) bool { return name == sample.LabelPID || name == sample.LabelThread }

// withService adds a service_name if there is none.
func withService(labels []Label) []Label {
	service := unknownService
	for _, l := range labels {
		switch l.Name {
		case sample.LabelService:
			return labels
		case sample.LabelExecutable:
			service = l.Value
		}
	}
	return append(labels, Label{sample.LabelService, service})
}

// rank orders labels by how much they are missed.
func rank(name string) int {
	switch {
	case name == nameLabel || name == sample.LabelService || name == sample.LabelHost:
		return 0
	case strings.HasPrefix(name, sample.LabelPodPrefix):
		return 2
	}
	return 1
}

// shortened cuts text to at most n bytes, between characters.
func shortened(text string, n int) string {
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n]
}
