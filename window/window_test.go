// SPDX-License-Identifier: Apache-2.0

package window

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

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

func encode(t *testing.T, c *Collector, names book) *profile.Profile {
	t.Helper()
	w := c.Cut(start.Add(10 * time.Second))
	out, err := Encoding{Symbolizer: names, Host: "host-1", PeriodNanoseconds: 52631578}.Encode(w)
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
	if out.Samples != w.Samples() || !out.Start.Equal(start) || out.Duration != 10*time.Second {
		t.Errorf("profile %+v of a window with %d samples", out, w.Samples())
	}
	return p
}

func TestEncodeSaysWhatItIs(t *testing.T) {
	c := NewCollector(start)
	c.Add(sample.Stack{{Object: program, Offset: 1}}, sample.Labels{Executable: "program"}, 3)
	p := encode(t, c, nil)
	got := fmt.Sprintln(p.SampleType[0], p.SampleType[1], p.PeriodType, p.DefaultSampleType,
		p.Period, p.TimeNanos, p.DurationNanos, p.Sample[0].Value)
	want := fmt.Sprintln(&profile.ValueType{Type: "samples", Unit: "count"}, &profile.ValueType{Type: "cpu", Unit: "nanoseconds"},
		&profile.ValueType{Type: "cpu", Unit: "nanoseconds"}, "cpu",
		52631578, start.UnixNano(), 10_000_000_000, []int64{3, 3 * 52631578})
	if got != want {
		t.Errorf("got  %swant %s", got, want)
	}
}

func TestEqualSamplesAreOneLineAndDifferentOnesAreNot(t *testing.T) {
	c := NewCollector(start)
	stack := sample.Stack{{Object: program, Offset: 1}, {Object: program, Offset: 2}}
	labels := sample.Labels{Executable: "a", PID: "1", Thread: "b", Container: "c"}
	c.Add(stack, labels, 1)
	c.Add(append(sample.Stack(nil), stack...), labels, 2)
	for _, other := range []sample.Labels{
		{Executable: "a", PID: "1", Thread: "b"},
		{Executable: "a1", PID: "", Thread: "b", Container: "c"},
		{Executable: "", PID: "a1", Thread: "b", Container: "c"},
	} {
		c.Add(stack, other, 1)
	}
	c.Add(stack[:1], labels, 1)
	c.Add(sample.Stack{stack[1], stack[0]}, labels, 1)
	p := encode(t, c, nil)
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
	c.Add(nil, sample.Labels{Executable: "program", PID: "12", Thread: "worker", Container: "c0ffee"}, 1)
	p := encode(t, c, nil)
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
	c.Add(nil, sample.Labels{}, 1)
	if l := encode(t, c, nil).Sample[0].Label; len(l) != 1 || l["host_name"][0] != "host-1" {
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
	c.Add(sample.Stack{{Object: program, Offset: 0x1100}}, sample.Labels{PID: "1"}, 1)
	c.Add(sample.Stack{{Object: twin, Offset: 0x1100}}, sample.Labels{PID: "2"}, 1)
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

func TestMarkersStayApart(t *testing.T) {
	c := NewCollector(start)
	c.AddLost(7)
	cut := &sample.Object{Kind: sample.Marker, Path: "[truncated: too deep]"}
	c.Add(sample.Stack{{Object: program, Offset: 1}, {Object: cut}}, sample.Labels{}, 1)
	p := encode(t, c, nil)
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

func TestEveryStringIsUTF8(t *testing.T) {
	bad := "bad\xff\xfename"
	object := &sample.Object{Path: bad}
	names := book{{Object: object}: {
		Frames:  []sample.Frame{{Function: bad, SystemName: bad + "2", File: bad + "3"}},
		Address: 1, Segment: sample.Segment{Start: 1, Limit: 2, File: bad + "4"},
	}}
	c := NewCollector(start)
	c.Add(sample.Stack{{Object: object}}, sample.Labels{Thread: bad, Executable: bad + "5"}, 1)
	w := c.Cut(start.Add(time.Second))
	out, err := Encoding{Symbolizer: names, Host: bad, PeriodNanoseconds: 1}.Encode(w)
	if err != nil {
		t.Fatal(err)
	}
	p, err := profile.Parse(bytes.NewReader(out.PProf))
	if err != nil {
		t.Fatal(err)
	}
	if text := p.String(); !utf8.ValidString(text) || !strings.Contains(text, "bad\uFFFDname5") {
		t.Errorf("not UTF-8, or the good part is lost:\n%q", text)
	}
}

// Nothing is lost or counted twice between windows.
func TestCutUnderConcurrentAdds(t *testing.T) {
	c := NewCollector(start)
	var adders sync.WaitGroup
	for range 4 {
		adders.Go(func() {
			for i := range 1000 {
				c.Add(sample.Stack{{Object: program, Offset: uint64(i % 7)}}, sample.Labels{}, 1)
			}
		})
	}
	var total int64
	for range 50 {
		total += c.Cut(start).Samples()
	}
	adders.Wait()
	total += c.Cut(start).Samples()
	if total != 4000 {
		t.Errorf("%d samples in all windows, want 4000", total)
	}
}

func BenchmarkAdd(b *testing.B) {
	c := NewCollector(start)
	stack := make(sample.Stack, 40)
	for i := range stack {
		stack[i] = sample.Location{Object: program, Offset: uint64(i) * 4096}
	}
	for i := 0; b.Loop(); i++ {
		stack[0].Offset = uint64(i % 1000)
		c.Add(stack, sample.Labels{Executable: "program", PID: "1"}, 1)
	}
}
