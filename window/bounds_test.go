// SPDX-License-Identifier: Apache-2.0

package window

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/fleetprof/fleetprof/sample"
)

// randomStack is what a program can make of its stack: addresses never seen
// before.
func randomStack(random *rand.Rand, object *sample.Object, frames int) sample.Stack {
	stack := make(sample.Stack, frames)
	for i := range stack {
		stack[i] = sample.Location{Object: object, Offset: random.Uint64() >> 1}
	}
	return stack
}

func checkBounds(t *testing.T, w *Window) {
	t.Helper()
	const markers = 2
	if n := len(w.locations); n > maxLocations+markers {
		t.Errorf("%d locations", n)
	}
	if n := len(w.lines); n > maxLines+2*spareLines+markers {
		t.Errorf("%d lines", n)
	}
	if len(w.labels) > len(w.lines) {
		t.Errorf("%d sets of labels for %d lines", len(w.labels), len(w.lines))
	}
	frames := 0
	for key := range w.lines {
		frames += len(key)/idBytes - 1
	}
	if frames != w.frames || frames > maxFrames+2*len(w.lines) {
		t.Errorf("%d frames, counted as %d", frames, w.frames)
	}
}

func TestStacksBeyondTheBoundsAreShortened(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	c := NewCollector(start)
	known := sample.Stack{{Object: program, Offset: 1}, {Object: program, Offset: 2}}
	honest := sample.Labels{Executable: "honest", PID: "1", Container: "ours"}
	hostile := sample.Labels{Executable: "hostile", PID: "2", Container: "theirs"}
	c.Add(known, honest, ticks(1))
	const attacks = 1000
	for range attacks {
		c.Add(randomStack(random, program, 1024), hostile, ticks(1))
	}
	c.Add(known, honest, ticks(1)) // as before
	c.Add(known[:1], honest, ticks(1))
	late := sample.Location{Object: program, Offset: 3}
	c.Add(sample.Stack{known[0], late}, honest, ticks(10))
	c.Add(sample.Stack{late, known[0]}, honest, ticks(20))
	c.AddLost(30, 30*testPeriod)
	checkBounds(t, c.cur)
	fit := int64((maxLocations - len(known)) / 1024)
	if got, want := c.cur.Folded(), attacks-fit+30; got != want {
		t.Errorf("%d samples folded, want %d", got, want)
	}
	got := lines(encode(t, c, symbolizerFunc(func(loc sample.Location) sample.Symbolized {
		if loc.Object.Kind == sample.Marker {
			return atHand(loc)
		}
		return offsetNames(loc)
	})))
	maps.DeleteFunc(got, func(line string, _ int64) bool { return strings.Count(line, "|") > 1000 })
	want := map[string]int64{
		"f1|f2|honest|1||ours":                       2,
		"f1|honest|1||ours":                          1,
		"f1|[truncated: window full]|honest|1||ours": 10,
		"[truncated: window full]|honest|1||ours":    20,
		"[truncated: window full]|hostile|2||theirs": attacks - fit - 1,
		"[lost samples]||||":                         30,
	}
	// The first stack that does not fit leaves its inner locations known.
	for line := range got {
		if strings.HasSuffix(line, "|[truncated: window full]|hostile|2||theirs") {
			want[line] = 1
		}
	}
	if !maps.Equal(got, want) {
		t.Errorf("lines\n%v, want\n%v", got, want)
	}
}

func TestFramesBeyondTheBoundAreNotKept(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	c := NewCollector(start)
	const depth, fit = 1024, maxFrames / 1024
	first, others := randomStack(random, program, depth), randomStack(random, program, 2)
	labels := sample.Labels{Executable: "deep", PID: "1"}
	for range 2 { // what has fit once fits again
		for i := range 2 * fit {
			stack := slices.Clone(first)
			stack[i%depth] = others[i/depth]
			c.Add(stack, labels, ticks(1))
		}
	}
	c.Add(randomStack(random, program, depth), labels, ticks(1))
	checkBounds(t, c.cur)
	if w := c.cur; w.frames < fit*depth || w.Folded() != 2*fit+1 {
		t.Errorf("%d frames, %d samples folded, want %d and %d", w.frames, w.Folded(), fit*depth, 2*fit+1)
	}
	if n, want := len(c.cur.locations), depth+1+1; n != want {
		t.Errorf("%d locations, want %d: those of the stacks that fit, and the marker", n, want)
	}
	for _, s := range encode(t, c, symbolizerFunc(offsetNames)).Sample {
		if s.Label[sample.LabelPID][0] != "1" {
			t.Fatalf("labels %v", s.Label)
		}
	}
}

func TestLabelsBeyondTheBoundAreFolded(t *testing.T) {
	c := NewCollector(start)
	stack := sample.Stack{{Object: program, Offset: 1}, {Object: program, Offset: 2}, {Object: program, Offset: 3}}
	labels := func(i int) sample.Labels {
		return sample.Labels{Executable: fmt.Sprint("e", i%100), PID: fmt.Sprint(i), Container: "c"}
	}
	const samples = 2 * maxLines
	for i := range samples {
		c.Add(stack, labels(i), ticks(1))
	}
	c.Add(stack, labels(0), ticks(1)) // has its line
	if got, want := c.cur.Folded(), int64(samples-maxLines); got != want {
		t.Errorf("%d samples folded, want %d", got, want)
	}
	for i := range 3 * spareLines { // now the executable changes each time
		c.Add(stack, sample.Labels{Executable: fmt.Sprint("x", i), PID: fmt.Sprint(i)}, ticks(1))
	}
	for i := range 3 * spareLines { // and now the stack
		c.Add(sample.Stack{{Object: program, Offset: uint64(i)}}, sample.Labels{Executable: fmt.Sprint("y", i)}, ticks(1))
	}
	checkBounds(t, c.cur)
	p := encode(t, c, symbolizerFunc(offsetNames))
	got := lines(p)
	for line, want := range map[string]int64{
		"f1|f2|f3|e0|0||c": 2,
		"f1|f2|f3|e7|||":   (samples - maxLines) / 100,
		"f1|f2|f3||||":     2*spareLines + 100,
		"f1||||":           1,
		"/nothing":         0,
	} {
		if got[line] != want {
			t.Errorf("%d samples in %s, want %d", got[line], line, want)
		}
	}
}

// hostileLocations lie in an object of their own each.
func hostileLocations() sample.Stack {
	random := rand.New(rand.NewPCG(1, 2))
	all := make(sample.Stack, maxLocations)
	for i := range all {
		object := &sample.Object{Path: fmt.Sprintf("/%d/%s", i, strings.Repeat("p", 200)), Inode: uint64(i)}
		all[i] = sample.Location{Object: object, Offset: random.Uint64() >> 1}
	}
	return all
}

// fullWindow has all a window can hold, with every label as long as the kernel
// lets it be.
func fullWindow(all sample.Stack) *Collector {
	random := rand.New(rand.NewPCG(1, 2))
	c := NewCollector(start)
	for i := range maxLocations / 1000 {
		c.Add(all[i*1000:][:1000], sample.Labels{}, ticks(1))
	}
	for range (maxFrames - maxLocations) / 1000 {
		stack := make(sample.Stack, 1000)
		for i := range stack {
			stack[i] = all[random.IntN(len(all))]
		}
		c.Add(stack, sample.Labels{}, ticks(1))
	}
	for i := range maxLines + 2*spareLines {
		labels := sample.Labels{
			Executable: fmt.Sprintf("%0255d", i), PID: fmt.Sprint(i), Thread: fmt.Sprintf("%015d", i), Container: fmt.Sprintf("%064d", i),
		}
		c.Add(sample.Stack{all[i%maxLocations]}, labels, ticks(1))
	}
	return c
}

// longNames are as long as a file can make them.
func longNames(loc sample.Location) sample.Symbolized {
	return sample.Symbolized{
		Frames: []sample.Frame{{
			Function:   fmt.Sprintf("%0512d", loc.Offset),
			SystemName: fmt.Sprintf("%0511d", loc.Offset),
			File:       fmt.Sprintf("%0510d", loc.Offset),
		}},
		Address: loc.Offset,
		Segment: sample.Segment{Start: loc.Object.Inode << 12, File: loc.Object.Path, BuildID: fmt.Sprintf("%0128x", loc.Offset)},
	}
}

// heap is what is in use, in bytes.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func TestMemoryOfTheWorstWindow(t *testing.T) {
	all := hostileLocations()
	before := heap()
	c := fullWindow(all)
	checkBounds(t, c.cur)
	window := heap() - before
	calls, encoding := 0, int64(0)
	names := symbolizerFunc(func(loc sample.Location) sample.Symbolized {
		if calls++; calls == maxLocations {
			encoding = heap() - before - window
		}
		return longNames(loc)
	})
	p := encode(t, c, names)
	t.Logf("window %.1f MiB, encoding %.1f MiB", float64(window)/(1<<20), float64(encoding)/(1<<20))
	if window > 32<<20 || encoding > 32<<20 {
		t.Errorf("window takes %d bytes, and encoding %d more", window, encoding)
	}
	truncated, nameBytes := 0, 0
	for _, f := range p.Function {
		if f.Name == nameless {
			truncated++
		} else {
			nameBytes += len(f.Name) + len(f.SystemName) + len(f.Filename)
		}
	}
	if truncated == 0 || nameBytes < maxNameBytes/2 || nameBytes > maxNameBytes {
		t.Errorf("%d functions have no name, others' names are %d bytes, want up to %d", truncated, nameBytes, maxNameBytes)
	}
}
