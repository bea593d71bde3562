// SPDX-License-Identifier: Apache-2.0

// Package columns is one profile of any type as compact columns: read from pprof
// by Decode, or from anything else through a Builder.
//
// The format that Decode reads is profile.proto of github.com/google/pprof. What
// the central store takes is narrower: there are 1 to 8 sample types with names,
// the time is set, no value is negative, and every string is valid UTF-8. Decode
// and Builder check all of that, so they are the gate for what arrives. Whatever
// Decode accepts, profile.ParseUncompressed and Profile.CheckValid of
// github.com/google/pprof accept too.
//
// The bytes are foreign. Every count is bounded, so the memory a profile takes
// is at most a small multiple of its size and never more than the limits below
// allow.
package columns

import (
	"slices"
	"time"
)

// Limits of one profile. The largest hosts stay far below them: 512 CPUs at
// 99 Hz make 506,880 samples in a window of 10 s.
const (
	// MaxBytes bounds the profile before compression.
	MaxBytes = 128 << 20
	// MaxDuration bounds the window one profile covers.
	MaxDuration = time.Hour
	// MaxTypes bounds the sample types of a profile.
	MaxTypes = 8
	// maxEntries bounds samples, strings, mappings, functions, locations,
	// lines, comments and distinct labels, each of them on its own.
	maxEntries = 1 << 20
	// maxFrames bounds the frames of all stacks together.
	maxFrames = 1 << 24
	// maxDepth bounds the locations of one stack.
	maxDepth = 1 << 13
	// maxLabels bounds the labels of one sample.
	maxLabels = 256
	// maxTotal bounds the sum of each sample type: what a float64 holds exactly,
	// and 104 days of CPU time in nanoseconds.
	maxTotal = 1 << 53
)

// Profile is one decoded profile. Strings are indexes into Strings, whose
// first entry is the empty string. A Profile is never changed once it is shared.
type Profile struct {
	// Name is what kind of profile it is: "cpu", or what others call memory or
	// process_cpu. See Decode for where it comes from.
	Name string
	// Start is in nanoseconds since the Unix epoch, Duration in nanoseconds; it is
	// 0 for what holds at one moment, such as a heap.
	Start, Duration int64
	// Period is how many of PeriodType lie between two samples; 0 if unknown.
	Period     int64
	PeriodType ValueType
	Types      []ValueType

	Strings   []string
	Mappings  []Mapping
	Functions []Function
	Locations []Location
	Lines     []Line
	Comments  []uint32

	// Values has a column for each of Types. Each column, and LabelSet, has one
	// entry for each sample.
	Values   [][]int64
	LabelSet []uint32

	// Origin is nil where the sender does not number what it sends.
	Origin *Origin

	frames      []uint32 // locations of all stacks, innermost first
	stackEnd    []uint32 // for each sample, where its stack ends in frames
	labels      []Label
	labelSetEnd []uint32 // for each label set, where it ends in labels
}

// Origin has the numbers that the sender of a profile has given to parts of it. The same
// number of the same sender stands for the same in all profiles that are stored.
type Origin struct {
	Sender *Sender
	// Locations and LabelSets have one entry for each of the profile's, Stacks for each
	// sample.
	Locations, LabelSets, Stacks []uint32
}

// Sender stands for a sender, by its address.
type Sender struct{ _ byte }

// ValueType is what values mean, such as cpu in nanoseconds.
type ValueType struct{ Type, Unit uint32 }

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

// Len is the number of samples, each of which may stand for many.
func (p *Profile) Len() int { return len(p.LabelSet) }

// Samples is how many samples were taken: the sum of the type samples/count where
// there is one, and else Len.
func (p *Profile) Samples() int64 {
	i := p.Type("samples", "count")
	if i < 0 {
		return int64(p.Len())
	}
	var sum int64
	for _, n := range p.Values[i] {
		sum += n
	}
	return sum
}

// Type is the index of a sample type, or -1.
func (p *Profile) Type(name, unit string) int {
	return slices.IndexFunc(p.Types, func(t ValueType) bool { return p.Strings[t.Type] == name && p.Strings[t.Unit] == unit })
}

// Size is about how many bytes of memory p holds.
func (p *Profile) Size() int64 {
	text := 0
	for _, s := range p.Strings {
		text += len(s) + 16
	}
	return int64(text + 40*len(p.Mappings) + 24*len(p.Functions) + 24*len(p.Locations) +
		24*len(p.Lines) + 24*len(p.labels) + 4*len(p.labelSetEnd) + 4*len(p.frames) +
		(8+8*len(p.Types))*p.Len() + 256)
}
