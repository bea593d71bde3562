// SPDX-License-Identifier: Apache-2.0

package query

import (
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/klauspost/compress/gzip"

	"github.com/fleetprof/fleetprof/server/columns"
)

// writePProf writes m as a gzip profile.proto message. IDs are indexes plus 1.
// Nothing is held but one message at a time.
func (m *merged) writePProf(w io.Writer) error {
	gz := gzip.NewWriter(w)
	e := encoder{w: gz}
	m.encodeHead(&e)
	m.encodeSamples(&e)
	for i, p := range m.mappings.values {
		e.uint(1, uint64(i)+1)
		encodeMapping(&e, p)
		e.message(3)
	}
	for i, l := range m.locations.values {
		e.uint(1, uint64(i)+1)
		encodeLocation(&e, l)
		e.message(4)
	}
	for i, f := range m.functions.values {
		e.uint(1, uint64(i)+1)
		e.uint(2, uint64(f.Name))
		e.uint(3, uint64(f.SystemName))
		e.uint(4, uint64(f.File))
		e.uint(5, uint64(f.StartLine))
		e.message(5)
	}
	for _, s := range m.strings.values {
		e.raw = append(e.raw, s...)
		e.message(6)
	}
	e.flush()
	if e.err != nil {
		return fmt.Errorf("write profile: %w", e.err)
	}
	if err := gz.Close(); err != nil {
		return fmt.Errorf("write profile: %w", err)
	}
	return nil
}

// encodeHead writes what is there once. It comes before the string table,
// which it adds to.
func (m *merged) encodeHead(e *encoder) {
	valueType := func(field uint64, name, unit string) {
		e.uint(1, uint64(m.str(name)))
		e.uint(2, uint64(m.str(unit)))
		e.message(field)
	}
	valueType(1, "samples", "count")
	valueType(1, "cpu", "nanoseconds")
	valueType(11, "cpu", "nanoseconds")
	start, length := m.covered.union()
	e.uint(9, uint64(start))
	e.uint(10, uint64(length))
	e.uint(12, uint64(m.period))
	for _, c := range slices.Sorted(maps.Keys(m.comments)) {
		e.uint(13, uint64(m.str(c)))
	}
	if m.skipped > 0 {
		e.uint(13, uint64(m.str(fmt.Sprintf("%d stored profiles could not be read and are missing here", m.skipped))))
	}
	e.uint(14, uint64(m.str("cpu")))
	e.flush()
}

func (m *merged) encodeSamples(e *encoder) {
	for _, r := range m.rows.values {
		for _, l := range m.stackLocations(r.stack) {
			e.packed(uint64(l) + 1)
		}
		e.nested(1)
		e.packed(uint64(r.count))
		e.packed(uint64(r.cpu))
		e.nested(2)
		for _, l := range m.labelSets.values[r.labelSet] {
			e.subUint(1, uint64(l.Key))
			e.subUint(2, uint64(l.Text))
			e.subUint(3, uint64(l.Number))
			e.subUint(4, uint64(l.Unit))
			e.nested(3)
		}
		e.message(2)
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

func encodeLocation(e *encoder, l location) {
	e.uint(2, uint64(l.Mapping))
	e.uint(3, l.Address)
	for _, line := range l.lines {
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
// error of the writer it does nothing.
type encoder struct {
	w   io.Writer
	err error
	out []byte // whole fields of the outermost message, not yet written
	raw []byte // the message being made
	sub []byte // the message nested in it
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
