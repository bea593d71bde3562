// SPDX-License-Identifier: Apache-2.0

// Package columns reads one CPU profile in pprof form into compact columns.
//
// The format is profile.proto of github.com/google/pprof. What the central
// store takes is narrower: the sample types are samples/count and
// cpu/nanoseconds, the period type is cpu/nanoseconds, time, duration and
// period are set, and every string is valid UTF-8. Decode checks all of that,
// so it is both the gate for what arrives and the reader of what is stored.
// Whatever Decode accepts, profile.ParseUncompressed and Profile.CheckValid
// of github.com/google/pprof accept too.
//
// The bytes are foreign. Every count is bounded, so the memory a profile takes
// is at most a small multiple of its size and never more than the limits below
// allow.
package columns

import "time"

// Limits of one profile. The largest hosts stay far below them: 512 CPUs at
// 99 Hz make 506,880 samples in a window of 10 s.
const (
	// MaxBytes bounds the profile before compression.
	MaxBytes = 128 << 20
	// MaxDuration bounds the window one profile covers.
	MaxDuration = time.Hour
	// maxEntries bounds samples, strings, mappings, functions, locations,
	// lines, comments and distinct labels, each of them on its own.
	maxEntries = 1 << 20
	// maxFrames bounds the frames of all stacks together.
	maxFrames = 1 << 24
	// maxDepth bounds the locations of one stack.
	maxDepth = 1 << 13
	// maxLabels bounds the labels of one sample.
	maxLabels = 256
	// maxTotal bounds the sum of each value: what a float64 holds exactly, and
	// 104 days of CPU time in nanoseconds.
	maxTotal = 1 << 53
)

// Profile is one decoded profile. Strings are indexes into Strings, whose
// first entry is the empty string. A Profile is never changed once decoded.
type Profile struct {
	// Start is in nanoseconds since the Unix epoch; Duration and Period are
	// in nanoseconds.
	Start, Duration, Period int64

	Strings   []string
	Mappings  []Mapping
	Functions []Function
	Locations []Location
	Lines     []Line
	Comments  []uint32

	// Count (in samples), CPU (in nanoseconds) and LabelSet have one entry for
	// each sample.
	Count, CPU []int64
	LabelSet   []uint32

	frames      []uint32 // locations of all stacks, innermost first
	stackEnd    []uint32 // for each sample, where its stack ends in frames
	labels      []Label
	labelSetEnd []uint32 // for each label set, where it ends in labels
}

// Mapping is pprof's Mapping message without its ID. It is comparable.
type Mapping struct {
	Start, Limit, Offset uint64
	File, BuildID        uint32
	Resolved             Resolved
}

// Resolved says which symbol information a mapping already has.
type Resolved uint8

// The flags are in the order of fields 7 to 10 of the Mapping message.
const (
	HasFunctions Resolved = 1 << iota
	HasFilenames
	HasLineNumbers
	HasInlineFrames
)

// Function is pprof's Function message without its ID. It is comparable.
type Function struct {
	Name, SystemName, File uint32
	StartLine              int64
}

// Location is pprof's Location message without its ID and its lines.
type Location struct {
	Address uint64
	// Mapping is an index into Mappings plus 1, or 0 for none.
	Mapping uint32
	Folded  bool
	lineEnd uint32
}

// Line is one frame of a location. Function is an index into Functions.
type Line struct {
	Function     uint32
	Line, Column int64
}

// Label is one label of a sample: a string (Text is not 0), or a number with a
// unit.
type Label struct {
	Key, Text, Unit uint32
	Number          int64
}

// Stack gives the locations of sample i, innermost first.
func (p *Profile) Stack(i int) []uint32 { return span(p.frames, p.stackEnd, i) }

// LabelSets is the number of distinct label sets.
func (p *Profile) LabelSets() int { return len(p.labelSetEnd) }

// Labels gives the labels of label set i, in the order of the message.
func (p *Profile) Labels(i int) []Label { return span(p.labels, p.labelSetEnd, i) }

// LocationLines gives the frames of location i, the innermost inlined call
// first.
func (p *Profile) LocationLines(i int) []Line {
	start := uint32(0)
	if i > 0 {
		start = p.Locations[i-1].lineEnd
	}
	return p.Lines[start:p.Locations[i].lineEnd]
}

// span gives part i of all, where part i ends at ends[i] and the next begins.
func span[T any](all []T, ends []uint32, i int) []T {
	start := uint32(0)
	if i > 0 {
		start = ends[i-1]
	}
	return all[start:ends[i]]
}

// Samples is the sum of all counts.
func (p *Profile) Samples() int64 {
	var sum int64
	for _, n := range p.Count {
		sum += n
	}
	return sum
}

// Size is about how many bytes of memory p holds.
func (p *Profile) Size() int64 {
	text := 0
	for _, s := range p.Strings {
		text += len(s) + 16
	}
	return int64(text + 40*len(p.Mappings) + 24*len(p.Functions) + 24*len(p.Locations) +
		24*len(p.Lines) + 24*len(p.labels) + 4*len(p.labelSetEnd) + 4*len(p.frames) +
		24*len(p.Count) + 256)
}
