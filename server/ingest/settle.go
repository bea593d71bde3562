// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"cmp"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"strings"

	"github.com/fleetprof/fleetprof/server/columns"
)

// Limits of the labels of one sample, in bytes where they are of text.
const (
	maxLabels     = 64
	maxLabelName  = 1024
	maxLabelValue = 4096
)

// about is what a protocol says beside a profile: what it is called, and labels of all
// of its samples.
type about struct {
	name   string
	labels []label
}

type label struct{ name, value string }

// aboutSeries makes it of the labels of a series, among which Prometheus' __name__
// names the profile. Others that begin with two underscores are between agents and
// their stores.
func aboutSeries(labels []label) (a about) {
	for _, l := range labels {
		switch {
		case l.name == "__name__":
			a.name = l.value
		case !strings.HasPrefix(l.name, "__"):
			a.labels = append(a.labels, l)
		}
	}
	return a
}

// settle gives a profile the names and labels by which it will be found. Names of labels
// become those of Prometheus; a label of a sample goes before one of the whole profile.
// CPU profiles are all called cpu, so that one query finds them whoever sent them; where
// they only count samples (OpenTelemetry's, Parca's), the period says what one stands for.
// A profile that has nothing to be changed, as those of our agents, stays as it is.
func settle(p *columns.Profile, abouts ...about) (*columns.Profile, error) {
	s := settling{p: p, names: map[uint32]string{}}
	for _, a := range abouts {
		for _, l := range a.labels {
			l.name = sanitize(l.name)
			if err := checkLabel(l.name, l.value); err != nil {
				return nil, err
			}
			s.labels = append(s.labels, l)
		}
		if a.name != "" && !isCPU(p) {
			s.name = sanitize(a.name)
		}
	}
	if isCPU(p) && p.Name != cpuName {
		s.name = cpuName
	}
	s.countsOnly = isCPU(p) && p.Type("samples", "count") == 0 && len(p.Types) == 1 && p.Period > 0
	changes, err := s.check()
	if err != nil {
		return nil, err
	}
	if !changes && len(s.labels) == 0 && s.name == "" && !s.countsOnly {
		return p, nil
	}
	return s.rebuild()
}

// cpuName is what all CPU profiles are called.
const cpuName = "cpu"

func isCPU(p *columns.Profile) bool {
	return p.Strings[p.PeriodType.Type] == "cpu" && p.Strings[p.PeriodType.Unit] == "nanoseconds"
}

// sanitize makes a label name as OpenTelemetry does for Prometheus: what is neither a
// letter, a digit nor an underscore becomes one.
// https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/
func sanitize(name string) string {
	valid := func(i int, c rune) bool {
		return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || i > 0 && c >= '0' && c <= '9'
	}
	for i, c := range name {
		if valid(i, c) {
			continue
		}
		out := strings.Map(func(c rune) rune {
			if valid(1, c) {
				return c
			}
			return '_'
		}, name)
		if !valid(0, rune(out[0])) {
			return "_" + out
		}
		return out
	}
	return name
}

func checkLabel(name, value string) error {
	switch {
	case name == "":
		return fmt.Errorf("read labels: one has no name")
	case len(name) > maxLabelName:
		return fmt.Errorf("read labels: a name has %d bytes, want %d at most: %.40q…", len(name), maxLabelName, name)
	case len(value) > maxLabelValue:
		return fmt.Errorf("read labels: the value of %s has %d bytes, want %d at most", name, len(value), maxLabelValue)
	}
	return nil
}

// settling is one profile on its way.
type settling struct {
	p          *columns.Profile
	name       string // to be changed to
	labels     []label
	countsOnly bool
	names      map[uint32]string // sanitized, by the strings of p
	b          *columns.Builder
}

// check refuses labels beyond the limits, and reports whether a name has to change.
func (s *settling) check() (changes bool, err error) {
	for set := range s.p.LabelSets() {
		labels := s.p.Labels(set)
		if n := len(labels) + len(s.labels); n > maxLabels {
			return false, fmt.Errorf("read labels: a sample has %d, want %d at most", n, maxLabels)
		}
		for _, l := range labels {
			if _, ok := s.names[l.Key]; !ok {
				s.names[l.Key] = sanitize(s.p.Strings[l.Key])
			}
			if err := checkLabel(s.names[l.Key], s.p.Strings[l.Text]); err != nil {
				return false, err
			}
			changes = changes || s.names[l.Key] != s.p.Strings[l.Key]
		}
	}
	return changes, nil
}

// rebuild makes the profile anew.
func (s *settling) rebuild() (*columns.Profile, error) {
	p := s.p
	s.b = columns.NewBuilder(cmp.Or(s.name, p.Name))
	s.head()
	for _, m := range p.Mappings {
		m.File, m.BuildID = s.text(m.File), s.text(m.BuildID)
		s.b.Mapping(m)
	}
	for _, f := range p.Functions {
		f.Name, f.SystemName, f.File = s.text(f.Name), s.text(f.SystemName), s.text(f.File)
		s.b.Function(f)
	}
	for i, l := range p.Locations {
		s.b.Location(l, p.LocationLines(i)...)
	}
	for _, c := range p.Comments {
		s.b.Comment(s.b.String(p.Strings[c]))
	}
	sets := make([]uint32, p.LabelSets())
	for i := range sets {
		sets[i] = s.b.LabelSet(s.labelSet(i))
	}
	values := make([]int64, 0, columns.MaxTypes)
	for i, set := range p.LabelSet {
		values = values[:0]
		for _, column := range p.Values {
			values = append(values, column[i])
		}
		if s.countsOnly {
			values = append(values, product(values[0], p.Period))
		}
		s.b.Sample(p.Stack(i), sets[set], values...)
	}
	return s.b.Finish()
}

// product multiplies two numbers that are not negative. What is beyond 63 bits becomes the
// largest of them, which no profile may have.
func product(a, b int64) int64 {
	high, low := bits.Mul64(uint64(a), uint64(b))
	if high > 0 || low > math.MaxInt64 {
		return math.MaxInt64
	}
	return int64(low)
}

func (s *settling) head() {
	p := s.p
	var types []columns.ValueType
	for _, v := range p.Types {
		types = append(types, columns.ValueType{Type: s.text(v.Type), Unit: s.text(v.Unit)})
	}
	if s.countsOnly {
		types = append(types, columns.ValueType{Type: s.b.String("cpu"), Unit: s.b.String("nanoseconds")})
	}
	s.b.SetHead(p.Start, p.Duration, p.Period, columns.ValueType{Type: s.text(p.PeriodType.Type), Unit: s.text(p.PeriodType.Unit)}, types...)
}

func (s *settling) text(i uint32) uint32 { return s.b.String(s.p.Strings[i]) }

// labelSet gives the labels of a set together with those of the profile, by name. Of
// equal names the first counts: labels of samples are before those of the profile.
func (s *settling) labelSet(set int) (all []columns.Label) {
	for _, l := range s.p.Labels(set) {
		all = append(all, columns.Label{Key: s.b.String(s.names[l.Key]), Text: s.text(l.Text), Unit: s.text(l.Unit), Number: l.Number})
	}
	for _, l := range s.labels {
		all = append(all, columns.Label{Key: s.b.String(l.name), Text: s.b.String(l.value)})
	}
	slices.SortStableFunc(all, func(a, b columns.Label) int { return cmp.Compare(a.Key, b.Key) })
	return slices.CompactFunc(all, func(a, b columns.Label) bool { return a.Key == b.Key })
}
