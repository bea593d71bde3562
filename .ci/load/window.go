// SPDX-License-Identifier: Apache-2.0

package main

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/fleetprof/fleetprof/server/columns"
)

const (
	// windowLength is that of agents.
	windowLength = 10 * time.Second
	// period is that of 99 Hz, in nanoseconds.
	period = 10101010
	// shifts is how many addresses a location may have besides the recorded one.
	shifts = 15
	// mostDraws bounds how many samples may be drawn for a line that is asked for.
	mostDraws = 20
)

// drawn is a line of a window before it has labels and locations.
type drawn struct {
	pod *pod
	stack
	pid int
}

// window is what a host ran in ten seconds: lines that differ in stack or labels.
type window struct {
	host   *host
	lines  []drawn
	counts map[drawn]int64 // samples of each
}

// draw makes the next window of a host, with so many lines.
func (f *fleet) draw(h *host, lines int) window {
	w := window{host: h, counts: make(map[drawn]int64, lines)}
	for n := 0; n < mostDraws*lines && len(w.lines) < lines; n++ {
		p := h.choose(f.random)
		d := drawn{p, f.drawStack(p.service), p.pid(h.windows, f.random)}
		if w.counts[d]++; w.counts[d] == 1 {
			w.lines = append(w.lines, d)
		}
	}
	h.windows++
	return w
}

// profile makes the profile of some lines of a window.
func (f *fleet) profile(w window, lines []drawn, start time.Time) (*columns.Profile, error) {
	b := &building{
		fleet: f, b: columns.NewBuilder("cpu"), places: make(index, len(f.places.all)), mappings: make(index, len(f.mappings.all)),
		functions: make(index, len(f.functions.all)), texts: make(index, len(f.texts.all)), sets: map[setKey]uint32{},
	}
	b.head(start)
	for _, d := range lines {
		b.line(d, w.counts[d])
	}
	p, err := b.b.Finish()
	if err == nil && f.sender != nil {
		p.Origin = f.origin(b, p, lines)
	}
	return p, err
}

// pid gives the process of a sample. Those of pods last; of the compiler and of what runs outside
// of pods, each window has others.
func (p *pod) pid(window int, r *rand.Rand) int {
	n := r.IntN(len(p.pids))
	if p.lasts {
		return p.pids[n]
	}
	return 1000 + (p.pids[0]+window*len(p.pids)+n)%4_000_000
}

// building makes a profile.
type building struct {
	fleet                              *fleet
	b                                  *columns.Builder
	places, mappings, functions, texts index
	sets                               map[setKey]uint32
	locations                          []uint32
	lines                              []columns.Line
	labels                             []columns.Label
}

// index has, for each number of the fleet, that in a profile plus 1.
type index []uint32

// of gives the number in the profile, from add where it is not there yet.
func (x *index) of(n uint32, add func(n uint32) uint32) uint32 {
	for int(n) >= len(*x) { // it is new to the fleet
		*x = append(*x, 0)
	}
	if (*x)[n] == 0 {
		(*x)[n] = add(n) + 1
	}
	return (*x)[n] - 1
}

func (b *building) head(start time.Time) {
	cpu := columns.ValueType{Type: b.b.String("cpu"), Unit: b.b.String("nanoseconds")}
	samples := columns.ValueType{Type: b.b.String("samples"), Unit: b.b.String("count")}
	b.b.SetHead(start.UnixNano(), windowLength.Nanoseconds(), period, cpu, samples, cpu)
}

func (b *building) line(d drawn, count int64) {
	b.locations = b.locations[:0]
	for _, p := range b.fleet.placesOf(d.pod.service, d.stack) {
		b.locations = append(b.locations, b.places.of(p, b.addLocation))
	}
	b.b.Sample(b.locations, b.labelSet(setKey{d.pod, d.pid, d.pod.lines[d.line].set}), count, count*period)
}

// setKey is what the labels of a line depend on.
type setKey struct {
	pod      *pod
	pid, set int
}

func (b *building) labelSet(k setKey) uint32 {
	if n, ok := b.sets[k]; ok {
		return n
	}
	b.labels = b.labels[:0]
	for _, l := range slices.Concat(k.pod.labels, []pair{{"process_pid", strconv.Itoa(k.pid)}}, k.pod.sets[k.set]) {
		b.labels = append(b.labels, columns.Label{Key: b.b.String(l.name), Text: b.b.String(l.value)})
	}
	b.sets[k] = b.b.LabelSet(b.labels)
	return b.sets[k]
}

// location adds a place of the fleet to the profile, and so do the others with what places consist of.
func (b *building) addLocation(n uint32) uint32 {
	p := &b.fleet.places.all[n]
	l := columns.Location{Address: p.recorded.Address + uint64(p.shift)}
	if p.mapping > 0 {
		l.Mapping = b.mappings.of(p.mapping-1, b.addMapping) + 1
	}
	b.lines = b.lines[:0]
	for _, line := range p.lines {
		line.Function = b.functions.of(line.Function, b.addFunction)
		b.lines = append(b.lines, line)
	}
	return b.b.Location(l, b.lines...)
}

func (b *building) addMapping(n uint32) uint32 {
	m := b.fleet.mappings.all[n]
	m.File, m.BuildID = b.texts.of(m.File, b.addText), b.texts.of(m.BuildID, b.addText)
	return b.b.Mapping(m)
}

func (b *building) addFunction(n uint32) uint32 {
	f := b.fleet.functions.all[n]
	f.Name, f.SystemName, f.File = b.texts.of(f.Name, b.addText), b.texts.of(f.SystemName, b.addText), b.texts.of(f.File, b.addText)
	return b.b.Function(f)
}

func (b *building) addText(n uint32) uint32 { return b.b.String(b.fleet.texts.all[n]) }

// placesOf gives the places of a stack, innermost first.
func (f *fleet) placesOf(s *service, of stack) []uint32 {
	if of.grown > 0 {
		return f.grownPlaces(s, of.grown)
	}
	if s.own[of.line] == nil {
		owner := 0
		if of.line*7%10 < ownTenths {
			owner = s.number
		}
		for _, l := range s.lines[of.line].stack {
			s.own[of.line] = append(s.own[of.line], f.place(l, owner, 0))
		}
	}
	return s.own[of.line]
}

// grownPlaces makes stack n of those that were not recorded: a recorded one, of which the
// innermost frames, as many as it has to itself, are those of another one. It is the same
// whenever it is made.
func (f *fleet) grownPlaces(s *service, n int) (places []uint32) {
	owner, shift := 0, uint32(0)
	if n%10 < ownTenths {
		owner = s.number
	}
	r := rand.New(rand.NewPCG(uint64(owner), uint64(n)))
	outer, inner := r.IntN(len(s.lines)), s.lines[r.IntN(len(s.lines))].stack
	if r.Float64() < s.elsewhere {
		shift = 1 + uint32(r.IntN(shifts))
	}
	frames := s.lines[outer].stack
	alone := min(s.alone[outer], len(inner))
	for i, l := range inner[:alone] {
		if i > 0 {
			shift = 0
		}
		places = append(places, f.place(l, owner, shift))
	}
	for _, l := range frames[s.alone[outer]:] {
		places = append(places, f.place(l, owner, 0))
	}
	return places
}
