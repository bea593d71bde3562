// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/binary"

	"github.com/klauspost/compress/gzip"

	"github.com/fleetprof/fleetprof/server/columns"
)

// encodePProf writes a profile as agents do: gzip profile.proto.
func encodePProf(p *columns.Profile) ([]byte, error) {
	e := encoding{}
	e.valueTypes(1, p.Types...)
	for i := range p.Len() {
		e.sample(p, i)
	}
	for i, m := range p.Mappings {
		e.message(3, 1, uint64(i)+1, 2, m.Start, 3, m.Limit, 4, m.Offset, 5, uint64(m.File), 6, uint64(m.BuildID), 7, uint64(m.Resolved&1))
	}
	for i, l := range p.Locations {
		e.numbers(1, uint64(i)+1, 2, uint64(l.Mapping), 3, l.Address)
		for _, line := range p.LocationLines(i) {
			e.nested(4, 1, uint64(line.Function)+1, 2, uint64(line.Line), 3, uint64(line.Column))
		}
		e.end(4)
	}
	for i, f := range p.Functions {
		e.message(5, 1, uint64(i)+1, 2, uint64(f.Name), 3, uint64(f.SystemName), 4, uint64(f.File), 5, uint64(f.StartLine))
	}
	for _, s := range p.Strings {
		e.inner = append(e.inner, s...)
		e.end(6)
	}
	e.valueTypes(11, p.PeriodType)
	e.out = appendField(e.out, 9, uint64(p.Start))
	e.out = appendField(e.out, 10, uint64(p.Duration))
	e.out = appendField(e.out, 12, uint64(p.Period))
	var gz bytes.Buffer
	zip, err := gzip.NewWriterLevel(&gz, 1) // costs least; the server never sees it
	if err != nil {
		return nil, err
	}
	if _, err := zip.Write(e.out); err != nil {
		return nil, err
	}
	err = zip.Close()
	return gz.Bytes(), err
}

// encoding collects messages: out is whole fields of the outermost one, inner the one
// being made.
type encoding struct{ out, inner, packed []byte }

func appendField(b []byte, field, v uint64) []byte {
	if v == 0 {
		return b
	}
	return binary.AppendUvarint(binary.AppendUvarint(b, field<<3), v)
}

func appendBytes(b []byte, field uint64, v []byte) []byte {
	b = binary.AppendUvarint(b, field<<3|2)
	return append(binary.AppendUvarint(b, uint64(len(v))), v...)
}

// numbers adds fields to the message being made: field and value in turn.
func (e *encoding) numbers(all ...uint64) {
	for i := 0; i < len(all); i += 2 {
		e.inner = appendField(e.inner, all[i], all[i+1])
	}
}

// nested adds a message of numbers to the message being made.
func (e *encoding) nested(field uint64, all ...uint64) {
	e.packed = e.packed[:0]
	for i := 0; i < len(all); i += 2 {
		e.packed = appendField(e.packed, all[i], all[i+1])
	}
	e.inner = appendBytes(e.inner, field, e.packed)
}

// end ends the message being made.
func (e *encoding) end(field uint64) {
	e.out = appendBytes(e.out, field, e.inner)
	e.inner = e.inner[:0]
}

func (e *encoding) message(field uint64, all ...uint64) {
	e.numbers(all...)
	e.end(field)
}

func (e *encoding) valueTypes(field uint64, all ...columns.ValueType) {
	for _, t := range all {
		e.message(field, 1, uint64(t.Type), 2, uint64(t.Unit))
	}
}

func (e *encoding) sample(p *columns.Profile, i int) {
	e.packed = e.packed[:0]
	for _, l := range p.Stack(i) {
		e.packed = binary.AppendUvarint(e.packed, uint64(l)+1)
	}
	e.inner = appendBytes(e.inner, 1, e.packed)
	e.packed = e.packed[:0]
	for _, column := range p.Values {
		e.packed = binary.AppendUvarint(e.packed, uint64(column[i]))
	}
	e.inner = appendBytes(e.inner, 2, e.packed)
	for _, l := range p.Labels(int(p.LabelSet[i])) {
		e.nested(3, 1, uint64(l.Key), 2, uint64(l.Text))
	}
	e.end(2)
}
