// SPDX-License-Identifier: Apache-2.0

package window

import (
	"io"
	"strings"
	"unicode/utf8"

	"github.com/fleetprof/fleetprof/sample"
)

const (
	// maxNameBytes bounds the names and paths of one profile together, as files
	// choose how long they are. A full window of usual ones takes a half.
	maxNameBytes = 8 << 20
	// nameless stands for every name and path beyond that.
	nameless = "[truncated: names too long]"
)

// encoder writes one profile.proto message part by part, strings last, so that
// it is never in memory as a whole. Errors stay with the writer, whose owner
// learns of them when closing it.
// https://github.com/google/pprof/blob/main/proto/profile.proto
type encoder struct {
	out       io.Writer
	strings   numbered[string]
	nameBytes int
	mappings  numbered[mapping]
	functions numbered[function]
	// locations are Location messages without their ID. Those that read the
	// same are one: a file may be known twice, by build ID and by inode. Files
	// of equal path and layout are told apart by the names they give.
	locations numbered[string]
	// What is in the making; kept to be used again.
	head, message, inner message
}

// mapping and function are the messages of these names; strings are indices.
type (
	mapping  struct{ start, limit, offset, file, buildID, hasFunctions uint64 }
	function struct{ name, systemName, file uint64 }
)

func newEncoder(out io.Writer) *encoder {
	p := &encoder{
		out:       out,
		strings:   make(numbered[string]),
		mappings:  make(numbered[mapping]),
		functions: make(numbered[function]),
		locations: make(numbered[string]),
	}
	p.strings.add("") // the format wants it first
	return p
}

// write appends a field that is itself a message, or a string.
func (p *encoder) write(field uint64, m message) {
	p.head = p.head[:0].head(field, len(m))
	p.out.Write(p.head)
	p.out.Write(m)
}

// text is the index of a string.
func (p *encoder) text(s string) uint64 {
	id, _ := p.strings.add(validUTF8(s))
	return uint64(id)
}

// name is the index of a string that some file contains.
func (p *encoder) name(s string) uint64 {
	s = validUTF8(s)
	if _, known := p.strings[s]; !known {
		if p.nameBytes+len(s) > maxNameBytes {
			return p.text(nameless)
		}
		p.nameBytes += len(s)
	}
	return p.text(s)
}

// validUTF8 replaces what is not UTF-8 (thread names and paths are bytes to
// the kernel): stores refuse a whole profile for one bad string.
func validUTF8(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}

// valueType writes what values are, such as cpu in nanoseconds.
func (p *encoder) valueType(field uint64, kind, unit string) {
	p.write(field, message(nil).number(1, p.text(kind)).number(2, p.text(unit)))
}

// header writes what is said once. Times are in nanoseconds, start since 1970.
func (p *encoder) header(start, duration, period int64) {
	p.valueType(1, "samples", "count")
	p.valueType(1, "cpu", "nanoseconds")
	p.valueType(11, "cpu", "nanoseconds")
	p.out.Write(message(nil).
		number(9, uint64(start)).
		number(10, uint64(duration)).
		number(12, uint64(period)).
		number(14, p.text("cpu")))
}

// location returns the ID of a location, which it writes if it is a new one.
func (p *encoder) location(s sample.Symbolized) uint64 {
	segment := p.mapping(s.Segment, len(s.Frames) > 0)
	m := p.message[:0].number(2, segment).number(3, s.Address)
	for _, f := range s.Frames {
		fn := p.function(f)
		p.inner = p.inner[:0].number(1, fn).number(2, uint64(f.Line))
		m = m.bytes(4, p.inner)
	}
	p.message = m
	id, added := p.locations.add(string(m))
	if added {
		p.write(4, m.number(1, uint64(id)+1))
	}
	return uint64(id) + 1
}

// mapping does so for a mapping; 0 is that of what lies in no object. Code with names and code
// without are in mappings of their own, as a mapping says of all its locations that they have names.
func (p *encoder) mapping(s sample.Segment, named bool) uint64 {
	if s == (sample.Segment{}) {
		return 0
	}
	m := mapping{start: s.Start, limit: s.Limit, offset: s.Offset, file: p.name(s.File), buildID: p.text(s.BuildID)}
	if named {
		m.hasFunctions = 1
	}
	id, added := p.mappings.add(m)
	if added {
		p.write(3, p.inner[:0].
			number(1, uint64(id)+1).
			number(2, m.start).
			number(3, m.limit).
			number(4, m.offset).
			number(5, m.file).
			number(6, m.buildID).
			number(7, m.hasFunctions))
	}
	return uint64(id) + 1
}

// function does so for a function.
func (p *encoder) function(f sample.Frame) uint64 {
	fn := function{name: p.name(f.Function), file: p.name(f.File)}
	fn.systemName = fn.name
	if f.SystemName != "" {
		fn.systemName = p.name(f.SystemName)
	}
	id, added := p.functions.add(fn)
	if added {
		p.write(5, p.inner[:0].
			number(1, uint64(id)+1).
			number(2, fn.name).
			number(3, fn.systemName).
			number(4, fn.file))
	}
	return uint64(id) + 1
}

// sample writes one sample. The values are those of the header's types.
func (p *encoder) sample(locations []uint64, labels sample.Labels, host string, values ...uint64) {
	m := p.message[:0].numbers(1, locations).numbers(2, values)
	label := func(name, value string) {
		p.inner = p.inner[:0].number(1, p.text(name)).number(2, p.text(value))
		m = m.bytes(3, p.inner)
	}
	if !labels.NoHost && labels.More.Get(sample.LabelHost) == "" {
		label(sample.LabelHost, host)
	}
	labels.Each(label)
	p.message = m
	p.write(2, m)
}

// finish writes the strings, which all else refers to.
func (p *encoder) finish() {
	for _, s := range p.strings.values() {
		p.write(6, append(p.message[:0], s...))
	}
}
