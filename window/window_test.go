// SPDX-License-Identifier: Apache-2.0

package window

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/pprof/profile"

	"github.com/fleetprof/fleetprof/sample"
)

// book is a symbolizer that knows what the test tells it.
type book map[sample.Location]sample.Symbolized

func (b book) Symbolize(loc sample.Location) sample.Symbolized {
	if s, ok := b[loc]; ok {
		return s
	}
	return sample.Symbolized{Frames: []sample.Frame{{Function: loc.Object.Path}}}
}

var (
	start   = time.Unix(1_700_000_000, 5)
	program = &sample.Object{Path: "/bin/program", BuildID: "ab"}
	// twin is the same file as program, known by its inode.
	twin = &sample.Object{Path: "/bin/program", Inode: 7}
)

// testPeriod is that of 19 Hz.
const testPeriod = 52631578

// ticks is the weight of a sample that stands for n of them.
func ticks[T int | int64](n T) sample.Weight {
	return sample.Weight{Ticks: uint32(n), Period: testPeriod}
}

// encode cuts the window and reads its profile with pprof's own reader.
func encode(t testing.TB, c *Collector, names Symbolizer) *profile.Profile {
	t.Helper()
	return encodeUntil(t.Context(), t, c, names)
}

func encodeUntil(ctx context.Context, t testing.TB, c *Collector, names Symbolizer) *profile.Profile {
	t.Helper()
	w := c.Cut(start.Add(10 * time.Second))
	out, err := Encoding{Symbolizer: names, Host: "host-1"}.Encode(ctx, w)
	if err != nil {
		t.Fatal(err)
	}
	p, err := profile.Parse(bytes.NewReader(out.PProf))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.CheckValid(); err != nil {
		t.Fatal(err)
	}
	total := int64(0)
	for _, s := range p.Sample {
		total += s.Value[0]
	}
	if total != w.total || out.Samples != total || !out.Start.Equal(start) || out.Duration != 10*time.Second {
		t.Errorf("profile of %v and %v with %d samples, in fact %d, of a window with %d",
			out.Start, out.Duration, out.Samples, total, w.total)
	}
	return p
}

// lines counts the samples of a profile by stack and labels, in words: the
// functions from the innermost on, then the labels but the host's.
func lines(p *profile.Profile) map[string]int64 {
	counts := make(map[string]int64)
	for _, s := range p.Sample {
		var words []string
		for _, loc := range s.Location {
			for _, l := range loc.Line {
				words = append(words, l.Function.Name)
			}
		}
		for _, name := range []string{sample.LabelExecutable, sample.LabelPID, sample.LabelThread, sample.LabelContainer} {
			words = append(words, strings.Join(s.Label[name], " "))
		}
		counts[strings.Join(words, "|")] += s.Value[0]
	}
	return counts
}

func TestEncodeSaysWhatItIs(t *testing.T) {
	c := NewCollector(start)
	c.Add(sample.Stack{{Object: program, Offset: 1}}, sample.Labels{Executable: "program"}, ticks(3))
	p := encode(t, c, book{})
	got := fmt.Sprintln(p.SampleType[0], p.SampleType[1], p.PeriodType, p.DefaultSampleType,
		p.Period, p.TimeNanos, p.DurationNanos, p.Sample[0].Value)
	want := fmt.Sprintln(&profile.ValueType{Type: "samples", Unit: "count"}, &profile.ValueType{Type: "cpu", Unit: "nanoseconds"},
		&profile.ValueType{Type: "cpu", Unit: "nanoseconds"}, "cpu",
		52631578, start.UnixNano(), 10_000_000_000, []int64{3, 3 * 52631578})
	if got != want {
		t.Errorf("got  %swant %s", got, want)
	}
}

// The rate has changed within the window, and differs between processes: the values are
// sums of what each sample stands for, and the period is the one of most ticks.
func TestSamplesOfDifferentWeight(t *testing.T) {
	c := NewCollector(start)
	stack := sample.Stack{{Object: program, Offset: 1}}
	c.Add(stack, sample.Labels{PID: "1"}, sample.Weight{Ticks: 1, Period: 50e6})
	c.Add(stack, sample.Labels{PID: "1"}, sample.Weight{Ticks: 10, Period: 2e6})
	c.Add(stack, sample.Labels{PID: "2"}, sample.Weight{Ticks: 3, Period: 50e6})
	c.AddLost(7, 20*time.Millisecond)
	p := encode(t, c, book{})
	got := make(map[string][]int64)
	for _, s := range p.Sample {
		got[strings.Join(s.Label[sample.LabelPID], "")] = s.Value
	}
	want := map[string][]int64{"1": {11, 70e6}, "2": {3, 150e6}, "": {7, 20e6}}
	if !maps.EqualFunc(got, want, slices.Equal[[]int64]) || p.Period != 2e6 {
		t.Errorf("values %v and period %d, want %v and 2000000", got, p.Period, want)
	}
	if p := encode(t, NewCollector(start), book{}); p.Period != 0 || len(p.Sample) != 0 {
		t.Errorf("an empty window has %d lines and period %d", len(p.Sample), p.Period)
	}
}

func TestEqualSamplesAreOneLineAndDifferentOnesAreNot(t *testing.T) {
	c := NewCollector(start)
	stack := sample.Stack{{Object: program, Offset: 1}, {Object: program, Offset: 2}}
	labels := sample.Labels{Executable: "a", PID: "1", Thread: "b", Container: "c"}
	c.Add(stack, labels, ticks(1))
	c.Add(append(sample.Stack(nil), stack...), labels, ticks(2))
	for _, other := range []sample.Labels{
		{Executable: "a", PID: "1", Thread: "b"},
		{Executable: "a1", PID: "", Thread: "b", Container: "c"},
		{Executable: "", PID: "a1", Thread: "b", Container: "c"},
	} {
		c.Add(stack, other, ticks(1))
	}
	c.Add(stack[:1], labels, ticks(1))
	c.Add(sample.Stack{stack[1], stack[0]}, labels, ticks(1))
	p := encode(t, c, book{})
	if len(p.Sample) != 6 {
		t.Errorf("%d lines, want 6:\n%v", len(p.Sample), p)
	}
	total, largest := int64(0), int64(0)
	for _, s := range p.Sample {
		total += s.Value[0]
		largest = max(largest, s.Value[0])
	}
	if total != 8 || largest != 3 {
		t.Errorf("total %d, largest %d, want 8 and 3", total, largest)
	}
}

func TestLabelsAreThoseOfTheSample(t *testing.T) {
	c := NewCollector(start)
	c.Add(nil, sample.Labels{Executable: "program", PID: "12", Thread: "worker", Container: "c0ffee"}, ticks(1))
	p := encode(t, c, book{})
	want := map[string][]string{
		"host_name": {"host-1"}, "process_executable_name": {"program"}, "process_pid": {"12"},
		"thread_name": {"worker"}, "container_id": {"c0ffee"},
	}
	if got := p.Sample[0].Label; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("labels %v, want %v", got, want)
	}
}

func TestUnknownLabelsAreAbsent(t *testing.T) {
	c := NewCollector(start)
	c.Add(nil, sample.Labels{}, ticks(1))
	if l := encode(t, c, book{}).Sample[0].Label; len(l) != 1 || l["host_name"][0] != "host-1" {
		t.Errorf("labels %v, want the host alone", l)
	}
}

func TestOneFileKnownTwiceIsOneMapping(t *testing.T) {
	segment := sample.Segment{Start: 0x1000, Limit: 0x3000, Offset: 0x1000, File: "/bin/program", BuildID: "ab"}
	names := book{
		{Object: program, Offset: 0x1100}: {
			Frames:  []sample.Frame{{Function: "inlined", File: "a.c", Line: 3}, {Function: "caller", SystemName: "_Zcaller", File: "a.c", Line: 9}},
			Address: 0x1100, Segment: segment,
		},
	}
	names[sample.Location{Object: twin, Offset: 0x1100}] = names[sample.Location{Object: program, Offset: 0x1100}]
	c := NewCollector(start)
	c.Add(sample.Stack{{Object: program, Offset: 0x1100}}, sample.Labels{PID: "1"}, ticks(1))
	c.Add(sample.Stack{{Object: twin, Offset: 0x1100}}, sample.Labels{PID: "2"}, ticks(1))
	p := encode(t, c, names)
	if len(p.Mapping) != 1 || len(p.Location) != 1 || len(p.Function) != 2 {
		t.Fatalf("%d mappings, %d locations, %d functions, want 1, 1, 2", len(p.Mapping), len(p.Location), len(p.Function))
	}
	m, loc := p.Mapping[0], p.Location[0]
	if m.Start != 0x1000 || m.Limit != 0x3000 || m.Offset != 0x1000 || m.File != "/bin/program" || m.BuildID != "ab" {
		t.Errorf("mapping %+v", m)
	}
	if loc.Address != 0x1100 || loc.Line[0].Function.Name != "inlined" || loc.Line[0].Line != 3 ||
		loc.Line[1].Function.Name != "caller" || loc.Line[1].Function.SystemName != "_Zcaller" {
		t.Errorf("location %+v", loc)
	}
}

// Two containers with a file of the same path and layout but without a build
// ID, or one file replaced by another: their code keeps its own names.
func TestFilesThatLookAlikeKeepTheirNames(t *testing.T) {
	segment := sample.Segment{Start: 0x1000, Limit: 0x3000, Offset: 0x1000, File: "/app"}
	one, other := &sample.Object{Path: "/app", Inode: 1}, &sample.Object{Path: "/app", Inode: 2}
	names := book{
		{Object: one, Offset: 0x1100}:   {Frames: []sample.Frame{{Function: "ours"}}, Address: 0x1100, Segment: segment},
		{Object: other, Offset: 0x1100}: {Frames: []sample.Frame{{Function: "theirs"}}, Address: 0x1100, Segment: segment},
	}
	c := NewCollector(start)
	c.Add(sample.Stack{{Object: one, Offset: 0x1100}}, sample.Labels{Container: "one"}, ticks(1))
	c.Add(sample.Stack{{Object: other, Offset: 0x1100}}, sample.Labels{Container: "other"}, ticks(2))
	p := encode(t, c, names)
	if len(p.Location) != 2 {
		t.Errorf("%d locations, want 2", len(p.Location))
	}
	want := map[string]int64{"ours||||one": 1, "theirs||||other": 2}
	if got := lines(p); !maps.Equal(got, want) {
		t.Errorf("lines %v, want %v", got, want)
	}
}

func TestMarkersStayApart(t *testing.T) {
	c := NewCollector(start)
	c.AddLost(7, 7*testPeriod)
	cut := &sample.Object{Kind: sample.Marker, Path: "[truncated: too deep]"}
	c.Add(sample.Stack{{Object: program, Offset: 1}, {Object: cut}}, sample.Labels{}, ticks(1))
	p := encode(t, c, book{})
	text := p.String()
	for _, want := range []string{"[lost samples]", "[truncated: too deep]"} {
		if !strings.Contains(text, want) {
			t.Errorf("no frame %s in\n%s", want, text)
		}
	}
	if len(p.Location) != 3 {
		t.Errorf("%d locations, want 3", len(p.Location))
	}
}

// Nothing is lost or counted twice between windows.
func TestCutUnderConcurrentAdds(t *testing.T) {
	c := NewCollector(start)
	var adders sync.WaitGroup
	for range 4 {
		adders.Go(func() {
			for i := range 1000 {
				c.Add(sample.Stack{{Object: program, Offset: uint64(i % 7)}}, sample.Labels{}, ticks(1))
			}
		})
	}
	var total int64
	for range 50 {
		total += c.Cut(start).total
	}
	adders.Wait()
	total += c.Cut(start).total
	if total != 4000 {
		t.Errorf("%d samples in all windows, want 4000", total)
	}
}
