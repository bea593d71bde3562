// SPDX-License-Identifier: Apache-2.0

package main

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/google/pprof/profile"

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
		fleet: f, b: columns.NewBuilder("cpu"), index: make([]uint32, len(f.places)),
		mappings: map[mappingKey]uint32{}, functions: map[functionKey]uint32{}, sets: map[setKey]uint32{},
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

// building makes a profile. Its index has, for each place, its location in the profile
// plus 1.
type building struct {
	*fleet
	b         *columns.Builder
	index     []uint32
	mappings  map[mappingKey]uint32
	functions map[functionKey]uint32
	sets      map[setKey]uint32
	locations []uint32
	lines     []columns.Line
	labels    []columns.Label
}

type mappingKey struct {
	recorded *profile.Mapping
	service  int
}

type functionKey struct {
	recorded *profile.Function
	service  int
}

func (b *building) head(start time.Time) {
	cpu := columns.ValueType{Type: b.b.String("cpu"), Unit: b.b.String("nanoseconds")}
	samples := columns.ValueType{Type: b.b.String("samples"), Unit: b.b.String("count")}
	b.b.SetHead(start.UnixNano(), windowLength.Nanoseconds(), period, cpu, samples, cpu)
}

func (b *building) line(d drawn, count int64) {
	places := b.placesOf(d.pod.service, d.stack)
	for len(b.index) < len(b.places) {
		b.index = append(b.index, 0)
	}
	b.locations = b.locations[:0]
	for _, p := range places {
		if b.index[p] == 0 {
			b.index[p] = b.location(b.places[p]) + 1
		}
		b.locations = append(b.locations, b.index[p]-1)
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

// location adds a location to the profile.
func (b *building) location(p place) uint32 {
	l := columns.Location{Address: p.recorded.Address + uint64(p.shift)}
	if m := p.recorded.Mapping; m != nil {
		l.Mapping = b.mapping(m, p.service) + 1
	}
	b.lines = b.lines[:0]
	for i, line := range p.recorded.Line {
		to := columns.Line{Function: b.function(line.Function, p.service), Line: line.Line, Column: line.Column}
		if i == 0 {
			to.Line += int64(p.shift)
		}
		b.lines = append(b.lines, to)
	}
	return b.b.Location(l, b.lines...)
}

func (b *building) mapping(m *profile.Mapping, service int) uint32 {
	key := mappingKey{m, service}
	n, ok := b.mappings[key]
	if !ok {
		file, id := m.File, m.BuildID
		if service > 0 {
			file, id = "/app/"+strconv.Itoa(service)+"/main", strconv.Itoa(service)+id
		}
		n = b.b.Mapping(columns.Mapping{
			Start: m.Start, Limit: m.Limit, Offset: m.Offset, File: b.b.String(file), BuildID: b.b.String(id), Resolved: columns.HasFunctions,
		})
		b.mappings[key] = n
	}
	return n
}

func (b *building) function(f *profile.Function, service int) uint32 {
	key := functionKey{f, service}
	n, ok := b.functions[key]
	if !ok {
		names := b.namesOf(f, key)
		n = b.b.Function(columns.Function{Name: b.b.String(names[0]), SystemName: b.b.String(names[1]), File: b.b.String(names[2]), StartLine: f.StartLine})
		b.functions[key] = n
	}
	return n
}

// namesOf gives name, system name and file of a function, as a service has it.
func (f *fleet) namesOf(of *profile.Function, key functionKey) [3]string {
	names, ok := f.names[key]
	if !ok {
		names = [3]string{of.Name, of.SystemName, of.Filename}
		if key.service > 0 {
			prefix := "app" + strconv.Itoa(key.service) + "."
			names = [3]string{prefix + of.Name, prefix + of.SystemName, "/app/" + strconv.Itoa(key.service) + of.Filename}
		}
		f.names[key] = names
	}
	return names
}

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

// place numbers a place.
func (f *fleet) place(l *profile.Location, owner int, shift uint32) uint32 {
	if isKernel(l) {
		owner = 0
	}
	p := place{l, owner, shift}
	n, ok := f.numbers[p]
	if !ok {
		n = uint32(len(f.places))
		f.numbers[p] = n
		f.places = append(f.places, p)
	}
	return n
}
