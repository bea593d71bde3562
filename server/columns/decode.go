// SPDX-License-Identifier: Apache-2.0

package columns

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/klauspost/compress/gzip"
)

// TooLargeError says that a profile is beyond one of the limits.
type TooLargeError struct {
	What  string
	Limit int
}

func (e *TooLargeError) Error() string {
	return fmt.Sprintf("read profile: more than %d %s", e.Limit, e.What)
}

// Inflate unpacks a gzip body of at most MaxBytes.
func Inflate(gz []byte) ([]byte, error) {
	r, err := gzip.NewReader(bytes.NewReader(gz))
	if err != nil {
		return nil, fmt.Errorf("unpack gzip: %w", err)
	}
	var raw bytes.Buffer
	raw.Grow(min(4*len(gz), MaxBytes))
	n, err := raw.ReadFrom(io.LimitReader(r, MaxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("unpack gzip: %w", err)
	}
	if n > MaxBytes {
		return nil, &TooLargeError{"bytes after unpacking", MaxBytes}
	}
	return raw.Bytes(), nil
}

// Read unpacks and decodes a gzip profile.
func Read(gz []byte) (*Profile, error) {
	raw, err := Inflate(gz)
	if err != nil {
		return nil, err
	}
	return Decode(raw)
}

// Decode reads and checks an uncompressed profile. The result shares no memory
// with raw. Errors say what is wrong, for whoever made the profile.
//
// pprof has no name for a profile as a whole, so Name becomes the name of the
// period type, or, without one, of the first sample type.
func Decode(raw []byte) (*Profile, error) {
	d := decoder{p: &Profile{}, labelSets: map[string]uint32{}}
	if err := d.reserve(raw); err != nil {
		return nil, fmt.Errorf("decode profile: %w", err)
	}
	m := message{buf: raw}
	for m.next() {
		m.fail(d.field(&m))
	}
	if m.err != nil {
		return nil, fmt.Errorf("decode profile: %w", m.err)
	}
	for _, step := range []func() error{d.finishStrings, d.finishLocations, d.finishSamples, d.p.check} {
		if err := step(); err != nil {
			return nil, fmt.Errorf("check profile: %w", err)
		}
	}
	d.p.Name = cmp.Or(d.p.Strings[d.p.PeriodType.Type], d.p.Strings[d.p.Types[0].Type])
	return d.p, nil
}

// decoder holds what is known of a profile while its fields, which may come in
// any order, are being read. References are resolved at the end.
type decoder struct {
	p *Profile

	text      strings.Builder // all strings, one after another
	stringEnd []int

	comments []uint64
	unused   []uint64 // string indexes that have to be right, but no more

	mappingIDs, functionIDs, locationIDs []uint64
	lineFunctions                        []uint64 // for each line, its function's ID
	locationMappings                     []uint64 // for each location, its mapping's ID
	frames                               []uint64 // location IDs of all stacks

	values    []uint64          // of the sample being read
	labelKey  []byte            // the label messages of that sample
	labelSets map[string]uint32 // by such a key
}

// reserve counts the entries, so that every column is allocated once.
func (d *decoder) reserve(raw []byte) error {
	var n [16]int
	m := message{buf: raw}
	for m.next() {
		if m.field < uint64(len(n)) {
			n[m.field]++
			m.fail(bounded(n[m.field], "entries of one kind", maxEntries))
		}
	}
	if m.err != nil {
		return m.err
	}
	p := d.p
	if err := checkTypes(n[1]); err != nil {
		return err
	}
	p.Values = make([][]int64, n[1])
	for i := range p.Values {
		p.Values[i] = make([]int64, 0, n[2])
	}
	p.LabelSet, p.stackEnd = make([]uint32, 0, n[2]), make([]uint32, 0, n[2])
	p.Mappings, d.mappingIDs = make([]Mapping, 0, n[3]), make([]uint64, 0, n[3])
	p.Locations, d.locationIDs = make([]Location, 0, n[4]), make([]uint64, 0, n[4])
	p.Lines, d.lineFunctions = make([]Line, 0, n[4]), make([]uint64, 0, n[4])
	d.locationMappings = make([]uint64, 0, n[4])
	p.Functions, d.functionIDs = make([]Function, 0, n[5]), make([]uint64, 0, n[5])
	d.stringEnd = make([]int, 0, n[6])
	return nil
}

// field handles one field of the Profile message.
func (d *decoder) field(m *message) error {
	switch m.field {
	case 1:
		t, err := valueType(m)
		d.p.Types = append(d.p.Types, t)
		return err
	case 2:
		return d.sample(m)
	case 3:
		return d.mapping(m)
	case 4:
		return d.location(m)
	case 5:
		return d.function(m)
	case 6:
		return d.string(m)
	case 7, 8, 14, 15: // drop and keep frames, default type, link
		d.unused = append(d.unused, m.uint())
	case 9:
		if d.p.Start != 0 {
			return fmt.Errorf("read time: there are two, as in concatenated profiles")
		}
		d.p.Start = m.int()
	case 10:
		d.p.Duration = m.int()
	case 11:
		t, err := valueType(m)
		d.p.PeriodType = t
		return err
	case 12:
		d.p.Period = m.int()
	case 13:
		d.comments = m.appendUints(d.comments, "comments", maxEntries)
	}
	return nil
}

func (d *decoder) string(m *message) error {
	b := m.data()
	if !utf8.Valid(b) {
		return fmt.Errorf("read string %d: invalid UTF-8", len(d.stringEnd))
	}
	if len(d.stringEnd) == 0 && len(b) > 0 {
		return fmt.Errorf("read string 0: it must be empty")
	}
	d.text.Write(b)
	d.stringEnd = append(d.stringEnd, d.text.Len())
	return nil
}

func valueType(m *message) (to ValueType, err error) {
	t := m.sub()
	for t.next() {
		switch t.field {
		case 1:
			to.Type = t.ref()
		case 2:
			to.Unit = t.ref()
		}
	}
	return to, t.err
}
