// SPDX-License-Identifier: Apache-2.0

package columns_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/pprof/profile"

	"github.com/fleetprof/fleetprof/server/columns"
	"github.com/fleetprof/fleetprof/server/profiletest"
)

var start = time.Date(2026, 11, 22, 13, 0, 0, 123456789, time.UTC)

func raw(t testing.TB, p *profile.Profile) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := p.WriteUncompressed(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// render writes each sample as text, with all that its location says, and sums
// up equal ones. It does so for profiles of both kinds.
func render(p *columns.Profile) map[string][columns.MaxTypes]int64 {
	sums := map[string][columns.MaxTypes]int64{}
	for i := range p.Len() {
		var b strings.Builder
		for _, l := range p.Stack(i) {
			loc := p.Locations[l]
			if loc.Mapping != 0 {
				m := p.Mappings[loc.Mapping-1]
				fmt.Fprintf(&b, "[%x %x %x %s %s %04b]", m.Start, m.Limit, m.Offset, p.Strings[m.File], p.Strings[m.BuildID], m.Resolved)
			}
			fmt.Fprintf(&b, "%x %v", loc.Address, loc.Folded)
			for _, line := range p.LocationLines(int(l)) {
				f := p.Functions[line.Function]
				fmt.Fprintf(&b, " %s|%s|%s|%d:%d:%d", p.Strings[f.Name], p.Strings[f.SystemName], p.Strings[f.File], f.StartLine, line.Line, line.Column)
			}
			b.WriteByte('\n')
		}
		labels := map[string]string{}
		for _, l := range p.Labels(int(p.LabelSet[i])) {
			if l.Text != 0 {
				labels[p.Strings[l.Key]] += p.Strings[l.Text] + ","
			} else if l.Number != 0 || l.Unit != 0 {
				labels["#"+p.Strings[l.Key]] += fmt.Sprintf("%d%s,", l.Number, p.Strings[l.Unit])
			}
		}
		fmt.Fprint(&b, labels)
		sum := sums[b.String()]
		for t, column := range p.Values {
			sum[t] += column[i]
		}
		sums[b.String()] = sum
	}
	return sums
}

func renderReference(p *profile.Profile) map[string][columns.MaxTypes]int64 {
	sums := map[string][columns.MaxTypes]int64{}
	for _, s := range p.Sample {
		var b strings.Builder
		for _, l := range s.Location {
			if m := l.Mapping; m != nil {
				flags := 0
				for i, has := range []bool{m.HasFunctions, m.HasFilenames, m.HasLineNumbers, m.HasInlineFrames} {
					if has {
						flags |= 1 << i
					}
				}
				fmt.Fprintf(&b, "[%x %x %x %s %s %04b]", m.Start, m.Limit, m.Offset, m.File, m.BuildID, flags)
			}
			fmt.Fprintf(&b, "%x %v", l.Address, l.IsFolded)
			for _, line := range l.Line {
				f := line.Function
				fmt.Fprintf(&b, " %s|%s|%s|%d:%d:%d", f.Name, f.SystemName, f.Filename, f.StartLine, line.Line, line.Column)
			}
			b.WriteByte('\n')
		}
		labels := map[string]string{}
		for k, vs := range s.Label {
			for _, v := range vs {
				labels[k] += v + ","
			}
		}
		for k, vs := range s.NumLabel {
			for i, v := range vs {
				unit := ""
				if len(s.NumUnit[k]) > i {
					unit = s.NumUnit[k][i]
				}
				labels["#"+k] += fmt.Sprintf("%d%s,", v, unit)
			}
		}
		fmt.Fprint(&b, labels)
		sum := sums[b.String()]
		for t, v := range s.Value {
			sum[t] += v
		}
		sums[b.String()] = sum
	}
	return sums
}

// everything has each field of the format that Decode keeps.
func everything() *profile.Profile {
	p := profiletest.New(start,
		profiletest.Sample{Stack: "main;libc.so.6!work", Labels: map[string]string{"host_name": "a", "thread_name": "größe"}, Count: 3},
		profiletest.Sample{Stack: "main", Count: 0},
	)
	p.Comments = []string{"a remark"}
	p.DropFrames, p.KeepFrames, p.DefaultSampleType, p.DocURL = "drop", "keep", "cpu", "https://example.org/"
	inlined := p.Location[0]
	inlined.Line = append(inlined.Line, profile.Line{Function: p.Function[1], Line: 7, Column: 9})
	inlined.IsFolded = true
	p.Mapping[0].HasInlineFrames = true
	bare := &profile.Location{ID: 99, Address: math.MaxUint64}
	p.Location = append(p.Location, bare)
	p.Sample = append(p.Sample, &profile.Sample{
		Location: []*profile.Location{bare}, Value: []int64{1, 1},
		NumLabel: map[string][]int64{"bytes": {-5}}, NumUnit: map[string][]string{"bytes": {"bytes"}},
	}, &profile.Sample{Value: []int64{1, 2}})
	p.Mapping[1].ID, p.Function[1].ID = 1<<40, math.MaxUint64
	return p
}

// heap is a profile of what holds at one moment, with four values a sample, as
// runtime/pprof makes them.
func heap() *profile.Profile {
	p := profiletest.New(start, profiletest.Sample{Stack: "main;work", Labels: map[string]string{"host_name": "a"}, Count: 3},
		profiletest.Sample{Stack: "main", Count: 4})
	p.SampleType = []*profile.ValueType{{Type: "alloc_objects", Unit: "count"}, {Type: "alloc_space", Unit: "bytes"},
		{Type: "inuse_objects", Unit: "count"}, {Type: "inuse_space", Unit: "bytes"}}
	p.PeriodType, p.Period, p.DurationNanos = &profile.ValueType{Type: "space", Unit: "bytes"}, 512<<10, 0
	for i, s := range p.Sample {
		s.Value = []int64{10, 20 + int64(i), 30, 1 << 40}
	}
	return p
}

// TestDecodeWithoutPeriod has a profile that does not say how it was sampled.
func TestDecodeWithoutPeriod(t *testing.T) {
	p := heap()
	p.PeriodType, p.Period = nil, 0
	got, err := columns.Decode(raw(t, p))
	if err != nil || got.Name != "alloc_objects" || got.Samples() != 2 {
		t.Errorf("Decode gives %+v and %v", got, err)
	}
}

func TestDecodeAgreesWithReference(t *testing.T) {
	for name, p := range map[string]*profile.Profile{
		"everything": everything(),
		"random":     profiletest.Random(1, "a", start, 200),
		"empty":      profiletest.New(start),
		"heap":       heap(),
	} {
		t.Run(name, func(t *testing.T) {
			b := raw(t, p)
			want, err := profile.ParseUncompressed(b)
			if err != nil {
				t.Fatal(err)
			}
			got, err := columns.Decode(b)
			if err != nil {
				t.Fatal(err)
			}
			if g, w := render(got), renderReference(want); !maps.Equal(g, w) {
				t.Errorf("samples differ:\n got %v\nwant %v", g, w)
			}
			if got.Start != want.TimeNanos || got.Duration != want.DurationNanos || got.Period != want.Period {
				t.Errorf("head is %d %d %d, want %d %d %d", got.Start, got.Duration, got.Period, want.TimeNanos, want.DurationNanos, want.Period)
			}
			if pt := want.PeriodType; got.Strings[got.PeriodType.Type] != pt.Type || got.Strings[got.PeriodType.Unit] != pt.Unit || got.Name != pt.Type {
				t.Errorf("%q has the period type %v, want %v", got.Name, got.PeriodType, want.PeriodType)
			}
			for i, st := range want.SampleType {
				if got.Type(st.Type, st.Unit) != i {
					t.Errorf("type %s/%s is not number %d of %v", st.Type, st.Unit, i, got.Types)
				}
			}
			if len(got.Comments) != len(want.Comments) {
				t.Errorf("%d comments, want %d", len(got.Comments), len(want.Comments))
			}
		})
	}
}

func TestDecodeRefuses(t *testing.T) {
	for _, c := range []struct {
		name, want string
		change     func(p *profile.Profile)
	}{
		{"no time", "read time", func(p *profile.Profile) { p.TimeNanos = 0 }},
		{"before 1970", "read time", func(p *profile.Profile) { p.TimeNanos = -1 }},
		{"after 2262", "read time", func(p *profile.Profile) { p.TimeNanos = math.MaxInt64 - 1 }},
		{"negative duration", "read duration", func(p *profile.Profile) { p.DurationNanos = -1 }},
		{"long duration", "read duration", func(p *profile.Profile) { p.DurationNanos = int64(2 * time.Hour) }},
		{"negative period", "read period", func(p *profile.Profile) { p.Period = -1 }},
		{"no sample types", "there are 0, want 1 to 8", func(p *profile.Profile) { p.SampleType, p.Sample = nil, nil }},
		{"nine sample types", "there are 9, want 1 to 8", func(p *profile.Profile) { p.SampleType, p.Sample = slices.Repeat(p.SampleType[:1], 9), nil }},
		{"same sample type twice", "is there twice", func(p *profile.Profile) { p.SampleType[1] = p.SampleType[0] }},
		{"sample type without a name", "has no name", func(p *profile.Profile) { p.SampleType[1] = &profile.ValueType{Unit: "bytes"} }},
		{"one value", "1 values", func(p *profile.Profile) { p.Sample[0].Value = []int64{1} }},
		{"negative count", "want 0 or more", func(p *profile.Profile) { p.Sample[0].Value[0] = -1 }},
		{"huge total", "the sum of cpu", func(p *profile.Profile) { p.Sample[0].Value[1] = math.MaxInt64 }},
		{"invalid UTF-8", "invalid UTF-8", func(p *profile.Profile) { p.Function[0].Name = "\xff" }},
		{"missing location", "find location", func(p *profile.Profile) { p.Location = nil }},
		{"missing function", "find function", func(p *profile.Profile) { p.Function = nil }},
		{"missing mapping", "find mapping", func(p *profile.Profile) { p.Mapping = nil }},
		{"same location twice", "given twice", func(p *profile.Profile) { p.Location[1].ID = p.Location[0].ID }},
		{"mapping without an ID", "the ID is 0", func(p *profile.Profile) { p.Mapping[0].ID = 0 }},
		{"deep stack", "locations in a stack", func(p *profile.Profile) {
			p.Sample[0].Location = make([]*profile.Location, 1<<13+1)
			for i := range p.Sample[0].Location {
				p.Sample[0].Location[i] = p.Location[0]
			}
		}},
		{"many labels", "labels of a sample", func(p *profile.Profile) {
			p.Sample[0].Label["k"] = strings.Split(strings.Repeat("v,", 300), ",")
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := everything()
			c.change(p)
			_, err := columns.Decode(raw(t, p))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Decode gives %v, want an error with %q", err, c.want)
			}
		})
	}
}

func TestDecodeRefusesBytes(t *testing.T) {
	good := raw(t, everything())
	for name, b := range map[string][]byte{
		"nothing":            {},
		"garbage":            []byte("this is not a profile at all"),
		"twice":              append(bytes.Clone(good), good...),
		"first string":       {0x32, 0x01, 'x'},
		"string reference":   append(bytes.Clone(good), 0x38, 0xff, 0xff, 0x03),       // drop_frames
		"wrong wire type":    append(bytes.Clone(good), 0x49, 0, 0, 0, 0, 0, 0, 0, 0), // time as fixed64
		"group":              append(bytes.Clone(good), 0x0b),
		"overlong varint":    append(bytes.Clone(good), 0x60, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f),
		"million of nothing": bytes.Repeat([]byte{0x12, 0x00}, 1<<20+1),
	} {
		t.Run(name, func(t *testing.T) {
			if p, err := columns.Decode(b); err == nil {
				t.Errorf("Decode gives %d samples, want an error", p.Len())
			}
		})
	}
	for n := range len(good) {
		if _, err := columns.Decode(good[:n]); err == nil {
			// Cut between two fields it may still be whole in itself.
			if p, err := profile.ParseUncompressed(good[:n]); err != nil || p.CheckValid() != nil {
				t.Errorf("cut off after %d of %d bytes: no error", n, len(good))
			}
		}
	}
}

func TestTooLarge(t *testing.T) {
	var large *columns.TooLargeError
	if _, err := columns.Decode(bytes.Repeat([]byte{0x32, 0x00}, 1<<20+1)); !errors.As(err, &large) {
		t.Errorf("a million strings: %v, want a TooLargeError", err)
	}
}

func TestInflate(t *testing.T) {
	p := profiletest.New(start, profiletest.Sample{Stack: "main", Count: 1})
	gz := profiletest.Gzip(t, p)
	got, err := columns.Inflate(gz)
	if err != nil || !bytes.Equal(got, raw(t, p)) {
		t.Errorf("Inflate gives %d bytes and %v", len(got), err)
	}
	for _, b := range [][]byte{nil, gz[:len(gz)-1], gz[:12], append(bytes.Clone(gz), 1, 2, 3), raw(t, p)} {
		if _, err := columns.Inflate(b); err == nil {
			t.Errorf("Inflate takes %x", b)
		}
	}
	gz[len(gz)/2] ^= 1
	if _, err := columns.Inflate(gz); err == nil {
		t.Error("Inflate takes a body with one bit changed")
	}
}

// FuzzDecode holds Decode against the reference: what it accepts, that accepts
// too, and both understand the same.
func FuzzDecode(f *testing.F) {
	f.Add(raw(f, everything()))
	f.Add(raw(f, profiletest.New(start)))
	f.Add(raw(f, heap()))
	f.Add(raw(f, profiletest.Random(1, "host", start, 3)))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := columns.Decode(b)
		if err != nil {
			return
		}
		want, err := profile.ParseUncompressed(b)
		if err != nil {
			t.Fatalf("the reference refuses what Decode takes: %v", err)
		}
		if err := want.CheckValid(); err != nil {
			t.Fatalf("the reference refuses what Decode takes: %v", err)
		}
		if got, want := render(p), renderReference(want); !maps.Equal(got, want) {
			t.Fatalf("samples differ:\n got %v\nwant %v", got, want)
		}
		if limit := int64(64*len(b) + 4096); p.Size() > limit {
			t.Fatalf("%d bytes became %d in memory", len(b), p.Size())
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	data := raw(b, profiletest.Random(1, "host", start, 2000))
	b.Run("columns", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := columns.Decode(data); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("reference", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := profile.ParseUncompressed(data); err != nil {
				b.Fatal(err)
			}
		}
	})
}
