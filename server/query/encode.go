// SPDX-License-Identifier: Apache-2.0

package query

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/klauspost/compress/gzip"

	"github.com/fleetprof/fleetprof/server/columns"
	"github.com/fleetprof/fleetprof/server/dictionary"
)

// which says what values samples have. By default it is both that there are, as our agents
// write them.
type which uint8

const (
	onlyValues which = iota + 1
	onlyCounts
)

// writePProf writes m as a gzip profile.proto message. IDs are indexes plus 1.
// Nothing is held but one message at a time. Packing well would take longer than merging.
func (m *merged) writePProf(ctx context.Context, w io.Writer) error {
	gz, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
	if err != nil {
		return fmt.Errorf("write profile: %w", err)
	}
	if err := m.encode(&encoder{ctx: ctx, w: gz, limit: m.limit}); err != nil {
		return err
	}
	if err := gz.Close(); err != nil {
		return fmt.Errorf("write profile: %w", err)
	}
	return nil
}

// encode writes m as a profile.proto message that is not compressed.
func (m *merged) encode(e *encoder) error {
	m.nameByPlace()
	m.encodeHead(e)
	m.encodeSamples(e)
	for i, p := range m.dict.Mappings {
		e.uint(1, uint64(i)+1)
		encodeMapping(e, p)
		e.message(3)
	}
	for i, l := range m.dict.Locations {
		e.uint(1, uint64(i)+1)
		encodeLocation(e, l)
		e.message(4)
	}
	for i, f := range m.dict.Functions {
		e.uint(1, uint64(i)+1)
		e.uint(2, uint64(f.Name))
		e.uint(3, uint64(f.SystemName))
		e.uint(4, uint64(f.File))
		e.uint(5, uint64(f.StartLine))
		e.message(5)
	}
	for _, s := range m.dict.Strings {
		e.raw = append(e.raw, s...)
		e.message(6)
	}
	e.flush()
	if e.err != nil {
		return fmt.Errorf("write profile: %w", e.err)
	}
	return nil
}

// encodeHead writes what is there once. It comes before the string table,
// which it adds to.
func (m *merged) encodeHead(e *encoder) {
	valueType := func(field uint64, name, unit string) {
		e.uint(1, uint64(m.dict.String(name)))
		e.uint(2, uint64(m.dict.String(unit)))
		e.message(field)
	}
	main := m.kind.Sample
	if m.counted() {
		valueType(1, "samples", "count")
	}
	if m.only == onlyCounts {
		main = "samples"
	} else {
		valueType(1, m.kind.Sample, m.kind.Unit)
	}
	valueType(11, m.kind.Period, m.kind.PeriodUnit)
	start, length := m.covered.union()
	e.uint(9, uint64(start))
	e.uint(10, uint64(length))
	e.uint(12, uint64(m.period))
	for _, c := range slices.Sorted(maps.Keys(m.comments)) {
		e.uint(13, uint64(m.dict.String(c)))
	}
	if m.skipped > 0 {
		e.uint(13, uint64(m.dict.String(fmt.Sprintf("%d parts of the store could not be read and are missing here", m.skipped))))
	}
	e.uint(14, uint64(m.dict.String(main)))
	e.flush()
}

// counted reports whether samples are written with their count.
func (m *merged) counted() bool {
	switch m.only {
	case onlyValues:
		return false
	case onlyCounts:
		return true
	}
	return m.samples > 0 || m.kind.Sample == "cpu"
}

func (m *merged) encodeSamples(e *encoder) {
	counted := m.counted()
	sets := make([][]byte, m.dict.LabelSets.Len()) // their fields, once for all of their samples
	stacks := new(packedStacks)
	for _, r := range m.rows.values {
		if e.err != nil {
			return
		}
		e.raw = appendBytes(e.raw, 1, stacks.of(&m.dict.Dictionary, r.stack))
		if counted {
			e.packed(uint64(r.count))
		}
		if m.only != onlyCounts {
			e.packed(uint64(r.value))
		}
		e.nested(2)
		if sets[r.labelSet] == nil {
			before := len(e.raw)
			encodeLabels(e, &m.dict.LabelSets, r.labelSet)
			sets[r.labelSet] = slices.Clone(e.raw[before:])
		} else {
			e.raw = append(e.raw, sets[r.labelSet]...)
		}
		e.message(2)
	}
}

// packedStacks has the locations of some stacks, those that were last encoded: label sets that follow
// each other are often of one program and have stacks in common.
type packedStacks [1 << 12]struct {
	stack uint32
	text  []byte
}

func (p *packedStacks) of(d *dictionary.Dictionary, stack uint32) []byte {
	known := &p[int(stack)%len(p)]
	if known.stack == stack {
		return known.text
	}
	known.stack, known.text = stack, known.text[:0]
	for n := stack; n != 0; n = d.Stacks[n].Parent {
		known.text = binary.AppendUvarint(known.text, uint64(d.Stacks[n].Location)+1)
	}
	return known.text
}

func encodeLabels(e *encoder, sets *dictionary.LabelSets, set uint32) {
	for i := range sets.Count(set) {
		l := sets.At(set, i)
		e.subUint(1, uint64(l.Key))
		e.subUint(2, uint64(l.Text))
		e.subUint(3, uint64(l.Number))
		e.subUint(4, uint64(l.Unit))
		e.nested(3)
	}
}

func encodeMapping(e *encoder, p columns.Mapping) {
	e.uint(2, p.Start)
	e.uint(3, p.Limit)
	e.uint(4, p.Offset)
	e.uint(5, uint64(p.File))
	e.uint(6, uint64(p.BuildID))
	for i := range uint64(4) {
		e.uint(7+i, uint64(p.Resolved>>i&1))
	}
}

func encodeLocation(e *encoder, l dictionary.Location) {
	e.uint(2, uint64(l.Mapping))
	e.uint(3, l.Address)
	for _, line := range l.Lines {
		e.subUint(1, uint64(line.Function)+1)
		e.subUint(2, uint64(line.Line))
		e.subUint(3, uint64(line.Column))
		e.nested(4)
	}
	if l.Folded {
		e.uint(5, 1)
	}
}

// encoder writes protocol buffer messages, at most two deep. After the first
// error, of the writer or because there is no time or no room left, it does nothing.
type encoder struct {
	ctx     context.Context // of the one call it is for
	w       io.Writer
	limit   int64 // bytes
	written int64
	err     error
	out     []byte // whole fields of the outermost message, not yet written
	raw     []byte // the message being made
	sub     []byte // the message nested in it
}

// flushBytes is how much is collected before it is written.
const flushBytes = 64 << 10

// uint adds a varint field to the message; zero is the default and left out.
func (e *encoder) uint(field, v uint64) { e.raw = appendUint(e.raw, field, v) }

// subUint adds a varint field to the nested message.
func (e *encoder) subUint(field, v uint64) { e.sub = appendUint(e.sub, field, v) }

// packed adds a number to the nested bytes.
func (e *encoder) packed(v uint64) { e.sub = binary.AppendUvarint(e.sub, v) }

// nested ends the nested message, as a field of the message.
func (e *encoder) nested(field uint64) {
	e.raw = appendBytes(e.raw, field, e.sub)
	e.sub = e.sub[:0]
}

// message ends the message, as a field of the outermost one.
func (e *encoder) message(field uint64) {
	e.out = appendBytes(e.out, field, e.raw)
	e.raw = e.raw[:0]
	e.write(flushBytes)
}

// flush writes all that is there; fields in raw belong to the outermost message.
func (e *encoder) flush() {
	e.out = append(e.out, e.raw...)
	e.raw = e.raw[:0]
	e.write(0)
}

func (e *encoder) write(atLeast int) {
	if len(e.out) < atLeast {
		return
	}
	if e.written += int64(len(e.out)); e.written > e.limit && e.err == nil {
		e.err = &limitError{fmt.Sprintf("the profile has more than %s before it is compressed", size(e.limit)), "query-memory"}
	}
	if e.err == nil {
		e.err = e.ctx.Err()
	}
	if e.err == nil {
		_, e.err = e.w.Write(e.out)
	}
	e.out = e.out[:0]
}

func appendUint(b []byte, field, v uint64) []byte {
	if v == 0 {
		return b
	}
	return binary.AppendUvarint(binary.AppendUvarint(b, field<<3), v)
}

func appendBytes(b []byte, field uint64, v []byte) []byte {
	b = binary.AppendUvarint(b, field<<3|2)
	return append(binary.AppendUvarint(b, uint64(len(v))), v...)
}
