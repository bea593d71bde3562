// SPDX-License-Identifier: Apache-2.0

package reshape

import (
	"bytes"
	"time"

	"github.com/klauspost/compress/gzip"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/fleetprof/fleetprof/server/columns"
)

// gzipLevel is the fastest one. The stores unpack what they get at once, and the level that windows
// have takes twice the time here for a tenth fewer bytes: go test -bench Split ./reshape.
const gzipLevel = gzip.BestSpeed

// The numbers of the fields of profile.proto's Profile message:
// https://github.com/google/pprof/blob/main/proto/profile.proto
const (
	fieldSampleType = 1
	fieldSample     = 2
	fieldMapping    = 3
	fieldLocation   = 4
	fieldFunction   = 5
	fieldString     = 6
	fieldTime       = 9
	fieldDuration   = 10
	fieldPeriodType = 11
	fieldPeriod     = 12
)

// numbering gives new numbers, from 1, to those entries of a table that a profile uses.
type numbering struct {
	numbers []uint32 // by index in the window's table; 0 is none
	used    []uint32 // indexes, in the order of their numbers
}

// of gives the number of an entry, and whether it is a new one.
func (n *numbering) of(index uint32) (number uint32, fresh bool) {
	if known := n.numbers[index]; known != 0 {
		return known, false
	}
	n.used = append(n.used, index)
	n.numbers[index] = uint32(len(n.used))
	return n.numbers[index], true
}

// forget takes the numbers beyond the first few back.
func (n *numbering) forget(keep int) {
	for _, index := range n.used[keep:] {
		n.numbers[index] = 0
	}
	n.used = n.used[:keep]
}

// encoder writes parts of a window as profiles. Each table of the message grows in a part of its
// own, so that the size is known at any time and the last sample can be taken back.
type encoder struct {
	p      *columns.Profile
	limits Limits
	head   []byte
	names  []string // of types and units: the first strings of each profile
	zip    *gzip.Writer

	parts                                   [tables][]byte
	strings, functions, mappings, locations numbering

	// Messages being made: those of a location and of its lines, and any other, are so at the same time.
	message, inner, ofLocation, ofLine []byte
}

// The parts, in the order in which they are written.
const (
	samplesPart = iota
	mappingsPart
	locationsPart
	functionsPart
	stringsPart
	tables
)

func newEncoder(p *columns.Profile, l Limits) *encoder {
	zip, err := gzip.NewWriterLevel(nil, gzipLevel)
	if err != nil {
		panic(err) // the level is a constant
	}
	e := &encoder{
		p: p, limits: l, zip: zip, names: []string{""},
		strings:   numbering{numbers: make([]uint32, len(p.Strings))},
		functions: numbering{numbers: make([]uint32, len(p.Functions))},
		mappings:  numbering{numbers: make([]uint32, len(p.Mappings))},
		locations: numbering{numbers: make([]uint32, len(p.Locations))},
	}
	e.makeHead()
	e.reset()
	return e
}

// makeHead writes what is there once, but for the time. The type of the period is always there: Parca ends
// without it.
func (e *encoder) makeHead() {
	p := e.p
	for _, t := range p.Types {
		e.head = appendMessage(e.head, fieldSampleType, e.valueType(t))
	}
	period := p.PeriodType
	if period.Type == 0 {
		period = p.Types[len(p.Types)-1]
	}
	e.head = appendMessage(e.head, fieldPeriodType, e.valueType(period))
	e.head = appendNumber(e.head, fieldPeriod, uint64(max(p.Period, 1)))
	e.head = appendNumber(e.head, fieldDuration, uint64(p.Duration))
}

// valueType writes one with names that are identifiers, as both stores want them.
func (e *encoder) valueType(t columns.ValueType) (message []byte) {
	for i, ref := range []uint32{t.Type, t.Unit} {
		e.names = append(e.names, identifier(e.p.Strings[ref]))
		message = appendNumber(message, protowire.Number(i+1), uint64(len(e.names)-1))
	}
	return message
}

// reset begins a new profile.
func (e *encoder) reset() {
	for i := range e.parts {
		e.parts[i] = e.parts[i][:0]
	}
	for _, n := range e.numberings() {
		n.forget(0)
	}
	for _, name := range e.names {
		e.parts[stringsPart] = appendMessage(e.parts[stringsPart], fieldString, name)
	}
}

func (e *encoder) numberings() [4]*numbering {
	return [...]*numbering{&e.strings, &e.functions, &e.mappings, &e.locations}
}

// mark is how far a profile was written.
type mark struct {
	bytes [tables]int
	used  [4]int
}

func (e *encoder) mark() (m mark) {
	for i, part := range e.parts {
		m.bytes[i] = len(part)
	}
	for i, n := range e.numberings() {
		m.used[i] = len(n.used)
	}
	return m
}

// back takes back all that was written since.
func (e *encoder) back(m mark) {
	for i := range e.parts {
		e.parts[i] = e.parts[i][:m.bytes[i]]
	}
	for i, n := range e.numberings() {
		n.forget(m.used[i])
	}
}

// timeBytes is the size of the time's field at most.
const timeBytes = 11

func (e *encoder) size() int {
	n := len(e.head) + timeBytes
	for _, part := range e.parts {
		n += len(part)
	}
	return n
}

// full reports whether the profile has more than it may.
func (e *encoder) full(samples int) bool {
	return e.limits.Bytes > 0 && e.size() > e.limits.Bytes || e.limits.Samples > 0 && samples > e.limits.Samples
}

// encode writes profiles with these samples, within the limits.
func (e *encoder) encode(rows []row, cuts *Cuts) (all []Series, err error) {
	count := e.p.Type("samples", "count")
	samples := func(rows []row) (sum int64) {
		for _, r := range rows {
			if count < 0 {
				sum++
			} else {
				sum += r.values[count]
			}
		}
		return sum
	}
	first := 0 // of rows, in the profile being written
	finish := func(end int) error {
		s, err := e.finish(len(all))
		s.Samples = samples(rows[first:end])
		all, first = append(all, s), end
		e.reset()
		return err
	}
	for i := 0; i < len(rows); i++ {
		before := e.mark()
		e.sample(rows[i])
		switch {
		case !e.full(i + 1 - first):
		case i > first:
			e.back(before)
			if err := finish(i); err != nil {
				return nil, err
			}
			i-- // once more, in the next profile
		default:
			e.back(before)
			e.sample(row{values: rows[i].values})
			cuts.Stacks++
		}
	}
	return all, finish(len(rows))
}

// finish compresses the n-th profile of a series.
func (e *encoder) finish(n int) (Series, error) {
	var out bytes.Buffer
	e.zip.Reset(&out)
	start := e.p.Start + int64(n)*int64(time.Millisecond)
	s := Series{RawBytes: e.size()}
	for _, part := range append([][]byte{e.head, appendNumber(nil, fieldTime, uint64(start))}, e.parts[:]...) {
		if _, err := e.zip.Write(part); err != nil {
			return s, err
		}
	}
	err := e.zip.Close()
	s.PProf = out.Bytes()
	return s, err
}

func (e *encoder) sample(r row) {
	e.inner = e.inner[:0]
	for _, l := range r.stack {
		e.inner = protowire.AppendVarint(e.inner, uint64(e.location(l)))
	}
	e.message = appendMessage(e.message[:0], 1, e.inner)
	e.inner = e.inner[:0]
	for _, v := range r.values {
		e.inner = protowire.AppendVarint(e.inner, uint64(v))
	}
	e.message = appendMessage(e.message, 2, e.inner)
	e.parts[samplesPart] = appendMessage(e.parts[samplesPart], fieldSample, e.message)
}

func (e *encoder) location(index uint32) uint32 {
	id, fresh := e.locations.of(index)
	if !fresh {
		return id
	}
	l := e.p.Locations[index]
	e.ofLocation = appendNumber(e.ofLocation[:0], 1, uint64(id))
	if l.Mapping != 0 {
		e.ofLocation = appendNumber(e.ofLocation, 2, uint64(e.mapping(l.Mapping-1)))
	}
	e.ofLocation = appendNumber(e.ofLocation, 3, l.Address)
	for _, line := range e.p.LocationLines(int(index)) {
		e.ofLine = appendNumber(e.ofLine[:0], 1, uint64(e.function(line.Function)))
		e.ofLine = appendNumber(e.ofLine, 2, uint64(line.Line))
		e.ofLine = appendNumber(e.ofLine, 3, uint64(line.Column))
		e.ofLocation = appendMessage(e.ofLocation, 4, e.ofLine)
	}
	if l.Folded {
		e.ofLocation = appendNumber(e.ofLocation, 5, 1)
	}
	e.parts[locationsPart] = appendMessage(e.parts[locationsPart], fieldLocation, e.ofLocation)
	return id
}

func (e *encoder) mapping(index uint32) uint32 {
	id, fresh := e.mappings.of(index)
	if !fresh {
		return id
	}
	m := e.p.Mappings[index]
	e.message = appendNumber(e.message[:0], 1, uint64(id))
	for i, v := range []uint64{m.Start, m.Limit, m.Offset, uint64(e.string(m.File)), uint64(e.string(m.BuildID))} {
		e.message = appendNumber(e.message, protowire.Number(i+2), v)
	}
	for i := range 4 { // the flags of columns.Resolved
		e.message = appendNumber(e.message, protowire.Number(i+7), uint64(m.Resolved>>i&1))
	}
	e.parts[mappingsPart] = appendMessage(e.parts[mappingsPart], fieldMapping, e.message)
	return id
}

func (e *encoder) function(index uint32) uint32 {
	id, fresh := e.functions.of(index)
	if !fresh {
		return id
	}
	f := e.p.Functions[index]
	e.message = appendNumber(e.message[:0], 1, uint64(id))
	for i, ref := range []uint32{f.Name, f.SystemName, f.File} {
		e.message = appendNumber(e.message, protowire.Number(i+2), uint64(e.string(ref)))
	}
	e.message = appendNumber(e.message, 5, uint64(f.StartLine))
	e.parts[functionsPart] = appendMessage(e.parts[functionsPart], fieldFunction, e.message)
	return id
}

// string gives the index of a string in the profile being written.
func (e *encoder) string(ref uint32) uint32 {
	if ref == 0 {
		return 0
	}
	number, fresh := e.strings.of(ref)
	if fresh {
		e.parts[stringsPart] = appendMessage(e.parts[stringsPart], fieldString, e.p.Strings[ref])
	}
	return uint32(len(e.names)) + number - 1
}

// appendNumber appends a field that is a number, 0 by leaving it out.
func appendNumber(to []byte, field protowire.Number, v uint64) []byte {
	if v == 0 {
		return to
	}
	return protowire.AppendVarint(protowire.AppendTag(to, field, protowire.VarintType), v)
}

// appendMessage appends a field that has a length: a message, text, or packed numbers.
func appendMessage[T string | []byte](to []byte, field protowire.Number, content T) []byte {
	to = protowire.AppendVarint(protowire.AppendTag(to, field, protowire.BytesType), uint64(len(content)))
	return append(to, content...)
}
