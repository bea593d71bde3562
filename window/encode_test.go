// SPDX-License-Identifier: Apache-2.0

package window

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/pprof/profile"

	"github.com/fleetprof/fleetprof/sample"
)

// symbolizerFunc is a symbolizer made of a function.
type symbolizerFunc func(sample.Location) sample.Symbolized

func (f symbolizerFunc) Symbolize(loc sample.Location) sample.Symbolized { return f(loc) }

// offsetNames names any location after its offset.
func offsetNames(loc sample.Location) sample.Symbolized {
	return sample.Symbolized{
		Frames:  []sample.Frame{{Function: fmt.Sprint("f", loc.Offset)}},
		Address: loc.Offset,
		Segment: sample.Segment{Limit: 1 << 40, File: loc.Object.Path},
	}
}

// The profile has the stacks and labels that were added, as often as they were.
func TestProfileHasWhatWasAdded(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	c, want := NewCollector(start), make(map[string]int64)
	for range 5000 {
		stack := make(sample.Stack, random.IntN(6))
		words := make([]string, len(stack), len(stack)+4)
		for i := range stack {
			stack[i] = sample.Location{Object: program, Offset: random.Uint64N(300)}
			words[i] = fmt.Sprint("f", stack[i].Offset)
		}
		labels := sample.Labels{
			Executable: fmt.Sprint("e", random.IntN(2)), PID: fmt.Sprint(random.IntN(3)), Thread: fmt.Sprint("t", random.IntN(2)),
		}
		n := random.Int64N(1 << random.IntN(32))
		c.Add(stack, labels, ticks(n))
		words = append(words, labels.Executable, labels.PID, labels.Thread, "")
		want[strings.Join(words, "|")] += n
	}
	p := encode(t, c, symbolizerFunc(offsetNames))
	if got := lines(p); !maps.Equal(got, want) {
		t.Errorf("%d lines are not the %d expected ones", len(got), len(want))
	}
	if len(p.Sample) != len(want) || len(p.Location) != 300 || len(p.Mapping) != 1 {
		t.Errorf("%d samples, want %d; %d locations, want 300; %d mappings, want 1",
			len(p.Sample), len(want), len(p.Location), len(p.Mapping))
	}
}

// everyKind is a stack with a location of each kind, and what these are called
// when nobody may be asked.
func everyKind() (stack sample.Stack, names []string) {
	for _, c := range []struct {
		object sample.Object
		name   string
	}{
		{sample.Object{Kind: sample.Kernel, Path: "k"}, "[kernel]"},
		{sample.Object{Kind: sample.VDSO, Path: "v"}, "[vdso]"},
		{sample.Object{Kind: sample.File, Path: "/lib/libfoo.so (deleted)", BuildID: "ab"}, "libfoo.so+0x1a2b"},
		{sample.Object{Kind: sample.File, Path: "/bin/program"}, "program+0x1a2b"},
		{sample.Object{Kind: sample.Anonymous, Path: "a"}, "[anon]"},
		{sample.Object{Kind: sample.Unknown, Path: "u"}, "[unknown]"},
		{sample.Object{Kind: sample.Marker, Path: "[truncated: too deep]"}, "[truncated: too deep]"},
	} {
		stack = append(stack, sample.Location{Object: &c.object, Offset: 0x1a2b})
		names = append(names, c.name)
	}
	return stack, names
}

func TestNamesAtHandOnceTheContextHasEnded(t *testing.T) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	nobody := symbolizerFunc(func(loc sample.Location) sample.Symbolized {
		t.Errorf("asked for the name of %s+%#x", loc.Object.Path, loc.Offset)
		return offsetNames(loc)
	})
	c := NewCollector(start)
	stack, names := everyKind()
	c.Add(stack, sample.Labels{}, ticks(3))
	p := encodeUntil(ended, t, c, nobody)
	if got, want := lines(p), map[string]int64{strings.Join(names, "|") + "||||": 3}; !maps.Equal(got, want) {
		t.Errorf("lines\n%v, want\n%v", got, want)
	}
	loc := p.Sample[0].Location[2]
	if m := loc.Mapping; loc.Address != 0x1a2b || m.Start != 0 || m.Limit != 0x7ffffffffffff000 || m.Offset != 0 ||
		m.File != "/lib/libfoo.so (deleted)" || m.BuildID != "ab" {
		t.Errorf("address %#x in %+v", loc.Address, m)
	}
}

// A file that does not answer does not hold up the end, and no location gets
// the name of another.
func TestEndIsNotHeldUpByOneName(t *testing.T) {
	const asked = 1000
	ctx, cancel := context.WithCancel(t.Context())
	answer, over := make(chan struct{}), make(chan struct{})
	slow := symbolizerFunc(func(loc sample.Location) sample.Symbolized {
		if loc.Offset == asked {
			cancel()
			<-answer
			close(over)
		}
		return offsetNames(loc)
	})
	c := NewCollector(start)
	for i := range uint64(2 * asked) {
		c.Add(sample.Stack{{Object: program, Offset: i}}, sample.Labels{PID: fmt.Sprint(i)}, ticks(1))
	}
	p := encodeUntil(ctx, t, c, slow)
	close(answer)
	<-over
	for _, s := range p.Sample {
		loc, pid := s.Location[0], s.Label[sample.LabelPID][0]
		named, plain := "f"+pid, fmt.Sprintf("program+%#x", loc.Address)
		name := loc.Line[0].Function.Name
		if fmt.Sprint(loc.Address) != pid || (name != named && name != plain) {
			t.Fatalf("offset %s: address %d is named %s", pid, loc.Address, name)
		}
		if late := loc.Address >= asked; late && name == named || loc.Address < asked-ahead-2 && name == plain {
			t.Errorf("%d of those up to %d is named %s", loc.Address, asked, name)
		}
	}
}

func FuzzEncode(f *testing.F) {
	f.Add("program", "1", "worker", "c0ffee", "main", "_Zmain", "a.c", "/bin/program", uint64(1), uint64(0x1000), int64(7))
	f.Add("bad\xff\xfename", "\x00", "\xffx\xffy", "é", "", "", "", "", uint64(1<<63), uint64(1<<64-1), int64(-1))
	f.Add("", "", "", "", "same", "same", "same", "same", uint64(0), uint64(0), int64(1<<62))
	f.Fuzz(func(t *testing.T, executable, pid, thread, container, name, system, file, path string, address, limit uint64, line int64) {
		symbolized := sample.Symbolized{
			Frames:  []sample.Frame{{Function: name, SystemName: system, File: file, Line: line}, {Function: system}},
			Address: address,
			Segment: sample.Segment{Start: address / 2, Limit: limit, Offset: address / 3, File: path, BuildID: container},
		}
		c := NewCollector(start)
		labels := sample.Labels{Executable: executable, PID: pid, Thread: thread, Container: container}
		c.Add(sample.Stack{{Object: program}, {Object: twin}}, labels, ticks(5))
		p := encode(t, c, symbolizerFunc(func(sample.Location) sample.Symbolized { return symbolized }))
		text := func(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }
		labels.Each(func(name, value string) {
			if got := p.Sample[0].Label[name]; !slices.Equal(got, []string{text(value)}) {
				t.Errorf("%s is %q, want %q", name, got, value)
			}
		})
		if len(p.Location) != 1 || len(p.Sample) != 1 || len(p.Sample[0].Location) != 2 {
			t.Fatalf("not two frames at one location:\n%s", p)
		}
		loc := p.Location[0]
		checkLocation(t, loc, symbolized, text)
		if !utf8.ValidString(p.String()) {
			t.Error("not UTF-8")
		}
	})
}

func checkLocation(t *testing.T, loc *profile.Location, want sample.Symbolized, text func(string) string) {
	t.Helper()
	segment := want.Segment
	if segment == (sample.Segment{}) {
		if loc.Mapping != nil {
			t.Errorf("mapping %+v, want none", loc.Mapping)
		}
	} else if m := loc.Mapping; m.Start != segment.Start || m.Limit != segment.Limit || m.Offset != segment.Offset ||
		m.File != text(segment.File) || m.BuildID != text(segment.BuildID) {
		t.Errorf("mapping %+v, want %+v", m, segment)
	}
	if loc.Address != want.Address || len(loc.Line) != len(want.Frames) {
		t.Fatalf("location %+v, want %+v", loc, want)
	}
	for i, f := range want.Frames {
		if f.SystemName == "" {
			f.SystemName = f.Function
		}
		l := loc.Line[i]
		if l.Line != f.Line || l.Function.Name != text(f.Function) || l.Function.SystemName != text(f.SystemName) ||
			l.Function.Filename != text(f.File) {
			t.Errorf("line %+v of %+v, want %+v", l, l.Function, f)
		}
	}
}

// Code that the store is to name has mapping, build ID and address, and says that it has no names. Code
// of the same segment that has names has a mapping of its own.
func TestUnnamedCode(t *testing.T) {
	segment := sample.Segment{Start: 0x1000, Limit: 0x9000, Offset: 0x1000, File: "/lib/libfoo.so", BuildID: "0123456789abcdef"}
	c := NewCollector(start)
	for offset := range uint64(3) {
		c.Add(sample.Stack{{Object: program, Offset: offset}}, sample.Labels{}, ticks(1))
	}
	p := encode(t, c, symbolizerFunc(func(loc sample.Location) sample.Symbolized {
		s := sample.Symbolized{Address: 0x1234 + loc.Offset, Segment: segment}
		if loc.Offset == 0 {
			s.Frames = []sample.Frame{{Function: "foo"}}
		}
		return s
	}))
	if len(p.Location) != 3 || len(p.Mapping) != 2 {
		t.Fatalf("%d locations, %d mappings, want 3 and 2", len(p.Location), len(p.Mapping))
	}
	for _, l := range p.Location {
		m, named := l.Mapping, l.Address == 0x1234
		if m.Start != 0x1000 || m.Offset != 0x1000 || m.Limit != 0x9000 || m.BuildID != segment.BuildID || m.File != segment.File {
			t.Errorf("mapping %+v, want %+v", m, segment)
		}
		if m.HasFunctions != named || len(l.Line) > 0 != named {
			t.Errorf("%#x has %d frames, and its mapping says %v of functions", l.Address, len(l.Line), m.HasFunctions)
		}
	}
}
