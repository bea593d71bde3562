// SPDX-License-Identifier: Apache-2.0

package window

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/google/pprof/profile"
	"github.com/klauspost/compress/gzip"

	"github.com/fleetprof/fleetprof/sample"
)

// Encoding is what a profile says beside its samples.
type Encoding struct {
	Symbolizer Symbolizer
	// Host is the label host_name of every sample.
	Host string
	// PeriodNanoseconds is the CPU time one sample stands for.
	PeriodNanoseconds int64
}

// gzipLevel costs half the CPU time of level 6 for 3 % more bytes.
const gzipLevel = 5

// Encode makes the pprof profile of a window, gzip-compressed: sample types
// samples/count and cpu/nanoseconds, as runtime/pprof makes them.
// https://github.com/google/pprof/blob/main/proto/profile.proto
func (e Encoding) Encode(w *Window) (sample.Profile, error) {
	duration := w.end.Sub(w.start)
	b := newBuilder(e.Symbolizer, &profile.Profile{
		SampleType: []*profile.ValueType{
			{Type: "samples", Unit: "count"},
			{Type: "cpu", Unit: "nanoseconds"},
		},
		DefaultSampleType: "cpu",
		PeriodType:        &profile.ValueType{Type: "cpu", Unit: "nanoseconds"},
		Period:            e.PeriodNanoseconds,
		TimeNanos:         w.start.UnixNano(),
		DurationNanos:     duration.Nanoseconds(),
	})
	host := validUTF8(e.Host)
	for _, l := range w.lines {
		labels := map[string][]string{sample.LabelHost: {host}}
		l.labels.Each(func(name, value string) { labels[name] = []string{validUTF8(value)} })
		b.out.Sample = append(b.out.Sample, &profile.Sample{
			Location: b.stack(l.stack),
			Value:    []int64{l.count, l.count * e.PeriodNanoseconds},
			Label:    labels,
		})
	}
	slices.SortFunc(b.out.Sample, func(x, y *profile.Sample) int { return compareStacks(x.Location, y.Location) })

	var out bytes.Buffer
	zip, err := gzip.NewWriterLevel(&out, gzipLevel)
	if err != nil {
		return sample.Profile{}, fmt.Errorf("compress profile: %w", err)
	}
	if err := b.out.WriteUncompressed(zip); err != nil {
		return sample.Profile{}, fmt.Errorf("encode profile: %w", err)
	}
	if err := zip.Close(); err != nil {
		return sample.Profile{}, fmt.Errorf("compress profile: %w", err)
	}
	return sample.Profile{Start: w.start, Duration: duration, Samples: w.total, PProf: out.Bytes()}, nil
}

// compareStacks brings stacks with the same inner frames together, which
// compresses better than any order by time.
func compareStacks(a, b []*profile.Location) int {
	return slices.CompareFunc(a, b, func(x, y *profile.Location) int { return int(x.ID) - int(y.ID) })
}

// builder numbers the parts of one profile.
type builder struct {
	symbolizer Symbolizer
	out        *profile.Profile
	byPlace    map[sample.Location]*profile.Location
	byAddress  map[address]*profile.Location
	mappings   map[sample.Segment]*profile.Mapping
	functions  map[profile.Function]*profile.Function
}

// address is what makes two locations the same in the file: one object may be
// known twice, once by build ID and once by inode. What has no segment has no
// address either and is told by its name.
type address struct {
	segment sample.Segment
	address uint64
	name    string
}

func newBuilder(s Symbolizer, out *profile.Profile) *builder {
	return &builder{
		symbolizer: s,
		out:        out,
		byPlace:    make(map[sample.Location]*profile.Location),
		byAddress:  make(map[address]*profile.Location),
		mappings:   make(map[sample.Segment]*profile.Mapping),
		functions:  make(map[profile.Function]*profile.Function),
	}
}

func (b *builder) stack(stack sample.Stack) []*profile.Location {
	locations := make([]*profile.Location, len(stack))
	for i, place := range stack {
		loc := b.byPlace[place]
		if loc == nil {
			loc = b.location(b.symbolizer.Symbolize(place))
			b.byPlace[place] = loc
		}
		locations[i] = loc
	}
	return locations
}

func (b *builder) location(s sample.Symbolized) *profile.Location {
	key := address{segment: s.Segment, address: s.Address}
	if s.Segment == (sample.Segment{}) {
		key.name = s.Frames[0].Function
	}
	if loc := b.byAddress[key]; loc != nil {
		return loc
	}
	loc := &profile.Location{
		ID:      uint64(len(b.out.Location) + 1),
		Mapping: b.mapping(s.Segment),
		Address: s.Address,
	}
	for _, f := range s.Frames {
		loc.Line = append(loc.Line, profile.Line{Function: b.function(f), Line: f.Line})
	}
	b.out.Location = append(b.out.Location, loc)
	b.byAddress[key] = loc
	return loc
}

// mapping is nil for what lies in no object.
func (b *builder) mapping(s sample.Segment) *profile.Mapping {
	if s == (sample.Segment{}) {
		return nil
	}
	if m := b.mappings[s]; m != nil {
		return m
	}
	m := &profile.Mapping{
		ID:           uint64(len(b.out.Mapping) + 1),
		Start:        s.Start,
		Limit:        s.Limit,
		Offset:       s.Offset,
		File:         validUTF8(s.File),
		BuildID:      s.BuildID,
		HasFunctions: true,
	}
	b.out.Mapping = append(b.out.Mapping, m)
	b.mappings[s] = m
	return m
}

func (b *builder) function(f sample.Frame) *profile.Function {
	value := profile.Function{
		Name:       validUTF8(f.Function),
		SystemName: validUTF8(f.SystemName),
		Filename:   validUTF8(f.File),
	}
	if value.SystemName == "" {
		value.SystemName = value.Name
	}
	if known := b.functions[value]; known != nil {
		return known
	}
	fn := value
	fn.ID = uint64(len(b.out.Function) + 1)
	b.out.Function = append(b.out.Function, &fn)
	b.functions[value] = &fn
	return &fn
}

// validUTF8 replaces what is not UTF-8 (thread names and paths are bytes to
// the kernel): stores refuse a whole profile for one bad string.
func validUTF8(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}
