// SPDX-License-Identifier: Apache-2.0

package reshape_test

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/pprof/profile"

	"github.com/fleetprof/fleetprof/reshape"
	"github.com/fleetprof/fleetprof/server/columns"
	"github.com/fleetprof/fleetprof/server/profiletest"
)

var start = time.Date(2026, 11, 29, 3, 0, 0, 0, time.UTC)

// totals is the two values of each stack and label set, both spelled out.
type totals map[string][2]int64

func (t totals) add(key string, values []int64) {
	sum := t[key]
	t[key] = [2]int64{sum[0] + values[0], sum[1] + values[1]}
}

// spell writes out a stack with all that is known of its locations.
func spell(s *profile.Sample) string {
	var b strings.Builder
	for _, l := range s.Location {
		if m := l.Mapping; m != nil {
			fmt.Fprintf(&b, "[%x %x %x %s %s %v%v%v%v]", m.Start, m.Limit, m.Offset, m.File, m.BuildID, m.HasFunctions, m.HasFilenames, m.HasLineNumbers, m.HasInlineFrames)
		}
		fmt.Fprintf(&b, "%x %v", l.Address, l.IsFolded)
		for _, line := range l.Line {
			f := line.Function
			fmt.Fprintf(&b, " %s|%s|%s|%d:%d:%d", f.Name, f.SystemName, f.Filename, f.StartLine, line.Line, line.Column)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// spellLabels writes out labels in order.
func spellLabels(labels map[string]string) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		fmt.Fprintf(&b, "%s=%q ", name, labels[name])
	}
	return b.String()
}

// ofWindow gives the totals of what an agent made. relabel makes the labels of a series.
func ofWindow(p *profile.Profile, relabel func(map[string]string)) totals {
	sums := totals{}
	for _, s := range p.Sample {
		labels := map[string]string{"__name__": "process_cpu"}
		for name, values := range s.Label {
			labels[name] = values[0]
		}
		relabel(labels)
		sums.add(spell(s)+spellLabels(labels), s.Value)
	}
	return sums
}

// parse reads a series by the format's own implementation.
func parse(t testing.TB, s reshape.Series) (*profile.Profile, map[string]string) {
	t.Helper()
	p, err := profile.ParseData(s.PProf)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.CheckValid(); err != nil {
		t.Fatal(err)
	}
	labels := map[string]string{}
	for _, l := range s.Labels {
		if labels[l.Name] != "" || l.Value == "" || !utf8.ValidString(l.Value) {
			t.Errorf("label %s=%q is empty or there twice", l.Name, l.Value)
		}
		labels[l.Name] = l.Value
	}
	if !slices.IsSortedFunc(s.Labels, func(a, b reshape.Label) int { return strings.Compare(a.Name, b.Name) }) {
		t.Errorf("labels %v are not in order", s.Labels)
	}
	return p, labels
}

// ofSeries gives the totals of series.
func ofSeries(t testing.TB, all []reshape.Series) totals {
	t.Helper()
	sums := totals{}
	for _, s := range all {
		p, labels := parse(t, s)
		var samples int64
		for _, sample := range p.Sample {
			sums.add(spell(sample)+spellLabels(labels), sample.Value)
			samples += sample.Value[0]
			if len(sample.Label) != 0 {
				t.Errorf("a sample of a series has labels %v", sample.Label)
			}
		}
		if samples != s.Samples {
			t.Errorf("a series says %d samples and has %d", s.Samples, samples)
		}
	}
	return sums
}

func decode(t testing.TB, p *profile.Profile) *columns.Profile {
	t.Helper()
	window, err := reshape.Decode(profiletest.Gzip(t, p))
	if err != nil {
		t.Fatal(err)
	}
	return window
}

func split(t testing.TB, p *profile.Profile, l reshape.Limits) ([]reshape.Series, reshape.Cuts) {
	t.Helper()
	all, cuts, err := reshape.Split(decode(t, p), l)
	if err != nil {
		t.Fatal(err)
	}
	return all, cuts
}

// window is one with some 40 label sets.
func window(seed uint64, samples int) *profile.Profile {
	p := profiletest.Random(seed, "web-1", start, samples)
	for i, s := range p.Sample {
		s.Label["process_pid"] = []string{fmt.Sprint(i % 20)}
		s.Label["process_executable_name"] = []string{fmt.Sprint("program-", i%10)}
		s.Label["container_id"] = []string{fmt.Sprint("c", i%5)}
		s.Label["thread_name"] = []string{fmt.Sprint("worker-", i%40)}
	}
	return p
}

// A series for each label set has all that the window had, also of code that the store is to name.
func TestSplit(t *testing.T) {
	p := window(1, 300)
	for _, l := range p.Location {
		if m := l.Mapping; strings.HasSuffix(m.File, "lib3.so") {
			l.Line, m.HasFunctions, m.HasFilenames, m.HasLineNumbers = nil, false, false, false
		}
	}
	all, cuts := split(t, p, reshape.Limits{})
	if got, want := ofSeries(t, all), ofWindow(p, func(map[string]string) {}); !maps.Equal(got, want) || cuts.Any() {
		t.Errorf("%d totals are not the %d of the window; %+v", len(got), len(want), cuts)
	}
	seen := map[string]bool{}
	for _, s := range all {
		got, labels := parse(t, s)
		if key := spellLabels(labels); seen[key] {
			t.Errorf("%s are two series", key)
		} else {
			seen[key] = true
		}
		if got.PeriodType == nil || got.PeriodType.Type != "cpu" || got.PeriodType.Unit != "nanoseconds" || got.Period != p.Period || got.TimeNanos != p.TimeNanos || got.DurationNanos != p.DurationNanos {
			t.Errorf("the head of a series is %v %d at %d for %d", got.PeriodType, got.Period, got.TimeNanos, got.DurationNanos)
		}
	}
}

// Labels that make no series are left off, and what differs in nothing else is added up.
func TestOmittedLabels(t *testing.T) {
	p := window(2, 300)
	// The same stack in two threads.
	p.Sample = append(p.Sample, &profile.Sample{
		Location: p.Sample[0].Location, Value: []int64{7, 70}, Label: maps.Clone(p.Sample[0].Label),
	})
	p.Sample[len(p.Sample)-1].Label["thread_name"] = []string{"another"}
	omit := func(name string) bool { return name == "thread_name" || name == "process_pid" }
	all, cuts := split(t, p, reshape.Limits{Omit: omit, Service: true})
	want := ofWindow(p, func(labels map[string]string) {
		delete(labels, "thread_name")
		delete(labels, "process_pid")
		labels["service_name"] = labels["process_executable_name"]
	})
	if got := ofSeries(t, all); !maps.Equal(got, want) || cuts.Any() {
		t.Errorf("%d totals are not the %d of the window; %+v", len(got), len(want), cuts)
	}
	rows := 0
	for _, s := range all {
		series, _ := parse(t, s)
		rows += len(series.Sample)
	}
	if rows != len(want) {
		t.Errorf("%d samples have %d stacks: equal ones are not added up", rows, len(want))
	}
}

// Profiles that would be too large become several with the same totals, at times of their own.
func TestLimits(t *testing.T) {
	p := profiletest.Random(3, "web-1", start, 100)
	for _, s := range p.Sample {
		s.Label = map[string][]string{"service_name": {"shop"}}
	}
	for name, limits := range map[string]reshape.Limits{
		"bytes": {Bytes: 12_000}, "samples": {Samples: 23}, "both": {Bytes: 8_000, Samples: 5},
	} {
		all, cuts := split(t, p, limits)
		if got, want := ofSeries(t, all), ofWindow(p, func(map[string]string) {}); !maps.Equal(got, want) || cuts.Any() {
			t.Errorf("%s: %d totals are not the %d of the window; %+v", name, len(got), len(want), cuts)
		}
		for i, s := range all {
			series, _ := parse(t, s)
			raw, err := columns.Inflate(s.PProf)
			if err != nil {
				t.Fatal(err)
			}
			if limits.Bytes > 0 && len(raw) > limits.Bytes || limits.Samples > 0 && len(series.Sample) > limits.Samples || len(raw) > s.RawBytes {
				t.Errorf("%s: a profile has %d bytes (says %d) and %d samples", name, len(raw), s.RawBytes, len(series.Sample))
			}
			if want := start.Add(time.Duration(i) * time.Millisecond).UnixNano(); series.TimeNanos != want {
				t.Errorf("%s: profile %d is of %d, want %d", name, i, series.TimeNanos, want)
			}
		}
		if len(all) < 4 {
			t.Errorf("%s: there are %d profiles", name, len(all))
		}
	}
}

// A stack that alone is too large gives way to its values.
func TestStackTooLarge(t *testing.T) {
	p := profiletest.New(start,
		profiletest.Sample{Stack: "main;" + strings.Repeat("long", 500), Count: 3},
		profiletest.Sample{Stack: "main;short", Count: 4})
	all, cuts := split(t, p, reshape.Limits{Bytes: 1000})
	got := ofSeries(t, all)
	if cuts != (reshape.Cuts{Stacks: 1}) || got[`__name__="process_cpu" `][0] != 3 || len(got) != 2 {
		t.Errorf("totals %v, %+v", got, cuts)
	}
}

func TestLabels(t *testing.T) {
	many := map[string]string{"service_name": "shop", "host_name": "web-1", "zone": "z"}
	for i := range 40 {
		many[fmt.Sprintf("k8s_pod_label_%02d", i)] = "x"
	}
	kept := map[string]string{"service_name": "shop", "host_name": "web-1", "zone": "z"}
	for i := range 26 {
		kept[fmt.Sprintf("k8s_pod_label_%02d", i)] = "x"
	}
	limits := reshape.Limits{Service: true, Names: 30, Name: 20, Value: 8}
	for _, c := range []struct {
		name       string
		have, want map[string]string
		cuts       reshape.Cuts
	}{
		{"names", map[string]string{"a.b-c": "1", "9a": "2", "é": "3", "service_name": "s"},
			map[string]string{"a_b_c": "1", "_9a": "2", "_": "3", "service_name": "s"}, reshape.Cuts{}},
		{"same after all", map[string]string{"a.b": "1", "a_b": "1", "service_name": "s"},
			map[string]string{"a_b": "1", "service_name": "s"}, reshape.Cuts{Labels: 1}},
		{"reserved", map[string]string{"__name__": "1", "__a": "2", "service_name": "s"},
			map[string]string{"service_name": "s"}, reshape.Cuts{Labels: 2}},
		{"long name", map[string]string{strings.Repeat("n", 21): "1", strings.Repeat("m", 20): "2", "service_name": "s"},
			map[string]string{strings.Repeat("m", 20): "2", "service_name": "s"}, reshape.Cuts{Labels: 1}},
		{"long value", map[string]string{"a": "12345678", "b": "123456789", "c": "1234567é", "service_name": "s"},
			map[string]string{"a": "12345678", "b": "12345678", "c": "1234567", "service_name": "s"}, reshape.Cuts{Values: 2}},
		{"no service", map[string]string{"a": "1"}, map[string]string{"a": "1", "service_name": "unknown_service"}, reshape.Cuts{}},
		{"many", many, kept, reshape.Cuts{Labels: 14}},
	} {
		p := profiletest.New(start, profiletest.Sample{Stack: "main", Labels: c.have, Count: 5})
		all, cuts := split(t, p, limits)
		if len(all) != 1 {
			t.Fatalf("%s: there are %d series", c.name, len(all))
		}
		_, got := parse(t, all[0])
		c.want["__name__"] = "process_cpu"
		if !maps.Equal(got, c.want) || cuts != c.cuts || all[0].Samples != 5 {
			t.Errorf("%s: labels %v, %+v; want %v, %+v", c.name, got, cuts, c.want, c.cuts)
		}
	}
}

// Names that the stores' query languages cannot say, and a period that is not there.
func TestHead(t *testing.T) {
	p := profiletest.New(start, profiletest.Sample{Stack: "main", Count: 5})
	p.SampleType = []*profile.ValueType{{Type: "off-cpu", Unit: "nano seconds"}, {Type: "2nd", Unit: ""}}
	p.PeriodType, p.Period = nil, 0
	all, _ := split(t, p, reshape.Limits{})
	got, labels := parse(t, all[0])
	if got.SampleType[0].Type != "off_cpu" || got.SampleType[0].Unit != "nano_seconds" || got.SampleType[1].Type != "_2nd" {
		t.Errorf("sample types are %v", got.SampleType)
	}
	if got.PeriodType == nil || got.PeriodType.Type != "_2nd" || got.Period != 1 || labels["__name__"] != "off_cpu" {
		t.Errorf("period is %d of %v, the name %s", got.Period, got.PeriodType, labels["__name__"])
	}
}

func TestDecodeRefuses(t *testing.T) {
	for _, bad := range [][]byte{nil, []byte("no gzip"), profiletest.Gzip(t, &profile.Profile{})} {
		if _, err := reshape.Decode(bad); err == nil {
			t.Errorf("%q is decoded", bad)
		}
	}
}

// FuzzSplit reshapes what a damaged disk may hold: values are neither lost nor added.
func FuzzSplit(f *testing.F) {
	for seed := range uint64(3) {
		var raw bytes.Buffer
		if err := profiletest.Random(seed, "web-1", start, 20).WriteUncompressed(&raw); err != nil {
			f.Fatal(err)
		}
		f.Add(raw.Bytes(), 0, 30, 0)
		f.Add(raw.Bytes(), 2000, 3, 4)
	}
	f.Fuzz(func(t *testing.T, raw []byte, size, names, value int) {
		window, err := columns.Decode(raw)
		if err != nil {
			return
		}
		want := make([]int64, len(window.Values))
		for i, column := range window.Values {
			for _, v := range column {
				want[i] += v
			}
		}
		limits := reshape.Limits{Service: true, Bytes: max(0, size), Names: max(3, names), Value: max(0, value)}
		all, _, err := reshape.Split(window, limits)
		if err != nil {
			t.Fatal(err)
		}
		got := make([]int64, len(want))
		for _, s := range all {
			p, labels := parse(t, s)
			if labels["service_name"] == "" || labels["__name__"] == "" || len(labels) > limits.Names || p.PeriodType == nil {
				t.Errorf("labels are %v, period type is %v", labels, p.PeriodType)
			}
			for _, sample := range p.Sample {
				for i, v := range sample.Value {
					got[i] += v
				}
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("totals %v, want %v", got, want)
		}
		checkOTLP(t, window, max(1000, size))
	})
}
