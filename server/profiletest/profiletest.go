// SPDX-License-Identifier: Apache-2.0

// Package profiletest makes profiles for tests, in the shape agents make them,
// with the encoder of github.com/google/pprof.
package profiletest

import (
	"bytes"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/pprof/profile"
)

const (
	// Period is that of 19 Hz, in nanoseconds.
	Period = 52631578
	// Duration is that of a window.
	Duration = 10 * time.Second
)

// Sample is one sample. Stack has the outermost function first, with
// semicolons between; a function may be written object!name.
type Sample struct {
	Stack  string
	Labels map[string]string
	Count  int64
}

// New makes a profile of one window.
func New(start time.Time, samples ...Sample) *profile.Profile {
	b := builder{p: &profile.Profile{
		SampleType:    []*profile.ValueType{{Type: "samples", Unit: "count"}, {Type: "cpu", Unit: "nanoseconds"}},
		PeriodType:    &profile.ValueType{Type: "cpu", Unit: "nanoseconds"},
		Period:        Period,
		TimeNanos:     start.UnixNano(),
		DurationNanos: int64(Duration),
	}, locations: map[string]*profile.Location{}, mappings: map[string]*profile.Mapping{}}
	for _, s := range samples {
		b.add(s)
	}
	return b.p
}

type builder struct {
	p         *profile.Profile
	locations map[string]*profile.Location
	mappings  map[string]*profile.Mapping
}

func (b *builder) add(s Sample) {
	out := &profile.Sample{Value: []int64{s.Count, s.Count * Period}}
	names := strings.Split(s.Stack, ";")
	for i := range names {
		out.Location = append(out.Location, b.location(names[len(names)-1-i]))
	}
	if len(s.Labels) > 0 {
		out.Label = map[string][]string{}
		for k, v := range s.Labels {
			out.Label[k] = []string{v}
		}
	}
	b.p.Sample = append(b.p.Sample, out)
}

func (b *builder) location(name string) *profile.Location {
	if l, ok := b.locations[name]; ok {
		return l
	}
	object, function, ok := strings.Cut(name, "!")
	if !ok {
		object, function = "program", name
	}
	n := uint64(len(b.p.Location)) + 1
	m := b.mapping(object)
	h := hash(function)
	f := &profile.Function{ID: n, Name: function, SystemName: "_Z" + function, Filename: function + ".c", StartLine: int64(h % 1000)}
	l := &profile.Location{ID: n, Mapping: m, Address: m.Start + h%(m.Limit-m.Start), Line: []profile.Line{{Function: f, Line: int64(h%1000) + 3}}}
	b.p.Function = append(b.p.Function, f)
	b.p.Location = append(b.p.Location, l)
	b.locations[name] = l
	return l
}

func (b *builder) mapping(object string) *profile.Mapping {
	if m, ok := b.mappings[object]; ok {
		return m
	}
	start := hash(object) % (1 << 15) << 32
	m := &profile.Mapping{
		ID: uint64(len(b.p.Mapping)) + 1, Start: start, Limit: start + 1<<31, Offset: 0x1000,
		File: "/usr/lib/" + object, BuildID: fmt.Sprintf("%040x", hash(object)),
		HasFunctions: true, HasFilenames: true, HasLineNumbers: true,
	}
	b.p.Mapping = append(b.p.Mapping, m)
	b.mappings[object] = m
	return m
}

// hash makes addresses and build IDs that are the same in all profiles.
func hash(s string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(s)) // never fails
	return h.Sum64()
}

// Gzip encodes p.
func Gzip(t testing.TB, p *profile.Profile) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := p.Write(&b); err != nil {
		t.Fatalf("encode profile: %v", err)
	}
	return b.Bytes()
}

// Random makes a window with n samples of 5 to 45 frames, from 4,000 functions
// and a few hundred threads, as a busy host does. Equal seeds give equal
// profiles.
func Random(seed uint64, host string, start time.Time, n int) *profile.Profile {
	r := rand.New(rand.NewPCG(seed, 1))
	samples := make([]Sample, n)
	for i := range samples {
		pid := r.IntN(60)
		var stack strings.Builder
		for depth := range 5 + r.IntN(40) {
			if depth > 0 {
				stack.WriteByte(';')
			}
			// Stacks share their outer frames.
			spread := min(4000, 1<<min(depth, 12))
			fmt.Fprintf(&stack, "lib%d.so!function_number_%d", pid%8, r.IntN(spread))
		}
		samples[i] = Sample{stack.String(), map[string]string{
			"host_name":               host,
			"process_executable_name": "program" + strconv.Itoa(pid%20),
			"process_pid":             strconv.Itoa(1000 + pid),
			"thread_name":             "worker-" + strconv.Itoa(r.IntN(8)),
			"container_id":            fmt.Sprintf("%064x", pid%10),
		}, 1 + int64(r.IntN(5))}
	}
	return New(start, samples...)
}
