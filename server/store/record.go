// SPDX-License-Identifier: Apache-2.0

package store

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/klauspost/compress/zstd"

	"github.com/fleetprof/fleetprof/server/columns"
)

// A record of the log is one profile, whole: it would be a tenth of the size if it
// referred to what records before it have said, but then one damaged record would
// take all after it along. FORMAT.md describes the bytes.

// recordHead is what stands before the compressed part: the id of the profile, and
// when it was stored, in milliseconds since the epoch.
const recordHead = 16 + 8

// maxRecord bounds a record after decompression: a profile's strings, and at most
// some 2^24 frames and 2^20 entries of each kind.
const maxRecord = columns.MaxBytes + 256<<20

// codec packs and unpacks records. It is safe for concurrent use.
type codec struct {
	encoder *zstd.Encoder
	decoder *zstd.Decoder
}

func newCodec() (c codec, err error) {
	if c.encoder, err = zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1)); err != nil {
		return c, fmt.Errorf("make zstd encoder: %w", err)
	}
	if c.decoder, err = zstd.NewReader(nil, zstd.WithDecoderMaxMemory(maxRecord), zstd.WithDecoderConcurrency(1)); err != nil {
		return c, fmt.Errorf("make zstd decoder: %w", err)
	}
	return c, nil
}

func (c codec) encode(p *columns.Profile, id [16]byte, stored int64) []byte {
	out := append(make([]byte, 0, 64<<10), id[:]...)
	out = binary.LittleEndian.AppendUint64(out, uint64(stored))
	return c.encoder.EncodeAll(encodeProfile(p), out)
}

// numbers appends numbers as varints.
type numbers []byte

func (n *numbers) add(all ...uint64) {
	for _, v := range all {
		*n = binary.AppendUvarint(*n, v)
	}
}

func (n *numbers) signed(v int64) { *n = binary.AppendVarint(*n, v) }

func (n *numbers) text(s string) {
	n.add(uint64(len(s)))
	*n = append(*n, s...)
}

func encodeProfile(p *columns.Profile) []byte {
	n := make(numbers, 0, 128<<10)
	n.text(p.Name)
	n.add(uint64(p.Start), uint64(p.Duration), uint64(p.Period))
	n.add(uint64(len(p.Strings) - 1))
	for _, s := range p.Strings[1:] {
		n.text(s)
	}
	n.add(uint64(len(p.Types)), uint64(p.PeriodType.Type), uint64(p.PeriodType.Unit))
	for _, t := range p.Types {
		n.add(uint64(t.Type), uint64(t.Unit))
	}
	n.add(uint64(len(p.Mappings)))
	for _, m := range p.Mappings {
		n.add(m.Start, m.Limit, m.Offset, uint64(m.File), uint64(m.BuildID), uint64(m.Resolved))
	}
	n.add(uint64(len(p.Functions)))
	for _, f := range p.Functions {
		n.add(uint64(f.Name), uint64(f.SystemName), uint64(f.File))
		n.signed(f.StartLine)
	}
	n.add(uint64(len(p.Locations)))
	for i, l := range p.Locations {
		lines := p.LocationLines(i)
		folded := uint64(0)
		if l.Folded {
			folded = 1
		}
		n.add(l.Address, uint64(l.Mapping), folded, uint64(len(lines)))
		for _, line := range lines {
			n.add(uint64(line.Function))
			n.signed(line.Line)
			n.signed(line.Column)
		}
	}
	n.add(uint64(len(p.Comments)))
	for _, c := range p.Comments {
		n.add(uint64(c))
	}
	n.samples(p)
	return n
}

// samples appends label sets and samples. Of a stack only what differs from the one
// before it is there: neighbours share their outer frames.
func (n *numbers) samples(p *columns.Profile) {
	n.add(uint64(p.LabelSets()))
	for i := range p.LabelSets() {
		labels := p.Labels(i)
		n.add(uint64(len(labels)))
		for _, l := range labels {
			n.add(uint64(l.Key), uint64(l.Text), uint64(l.Unit))
			n.signed(l.Number)
		}
	}
	n.add(uint64(p.Len()))
	var before []uint32
	for i := range p.Len() {
		stack := p.Stack(i)
		shared := 0
		for shared < min(len(stack), len(before)) && stack[len(stack)-1-shared] == before[len(before)-1-shared] {
			shared++
		}
		n.add(uint64(p.LabelSet[i]), uint64(shared), uint64(len(stack)-shared))
		for _, l := range stack[:len(stack)-shared] {
			n.add(uint64(l))
		}
		for _, column := range p.Values {
			n.add(uint64(column[i]))
		}
		before = stack
	}
}

// decode reads a record; all limits of package columns hold for it.
func (c codec) decode(record []byte) (p *columns.Profile, id [16]byte, stored int64, err error) {
	if len(record) < recordHead {
		return nil, id, 0, errors.New("read record: it is cut off")
	}
	copy(id[:], record)
	stored = int64(binary.LittleEndian.Uint64(record[16:]))
	raw, err := c.decoder.DecodeAll(record[recordHead:], nil)
	if err != nil {
		return nil, id, 0, fmt.Errorf("unpack record: %w", err)
	}
	if p, err = decodeProfile(raw); err != nil {
		return nil, id, 0, fmt.Errorf("read record: %w", err)
	}
	return p, id, stored, nil
}

var errCutOff = errors.New("it is cut off")

// reader reads numbers. After the first error it gives zeros.
type reader struct {
	buf []byte
	err error
}

func (r *reader) number() uint64 {
	v, n := binary.Uvarint(r.buf)
	if n <= 0 {
		r.err, r.buf = errCutOff, nil
		return 0
	}
	r.buf = r.buf[n:]
	return v
}

func (r *reader) signed() int64 {
	v := r.number()
	return int64(v>>1) ^ -int64(v&1)
}

// ref is a number of something; whatever does not fit becomes one that nothing has.
func (r *reader) ref() uint32 { return uint32(min(r.number(), 1<<32-1)) }

// count is how many entries follow, each of a byte at least.
func (r *reader) count() int {
	n := r.number()
	if n > uint64(len(r.buf)) {
		r.err, r.buf = errCutOff, nil
		return 0
	}
	return int(n)
}

func (r *reader) text() string {
	n := r.count()
	s := string(r.buf[:n])
	r.buf = r.buf[n:]
	return s
}

func decodeProfile(raw []byte) (*columns.Profile, error) {
	r := &reader{buf: raw}
	b := columns.NewBuilder(r.text())
	start, duration, period := int64(r.number()), int64(r.number()), int64(r.number())
	strings := []uint32{0} // the Builder numbers them as they come, but for repeated ones
	for range r.count() {
		strings = append(strings, b.String(r.text()))
	}
	d := recordDecoding{reader: r, b: b, strings: strings}
	d.head(start, duration, period)
	d.entries()
	d.samples()
	p, err := b.Finish()
	return p, errors.Join(r.err, err)
}

// recordDecoding reads the parts of a profile.
type recordDecoding struct {
	*reader
	b       *columns.Builder
	strings []uint32
	types   int
}

// string is a reference to a string.
func (d *recordDecoding) string() uint32 {
	if i := d.number(); i < uint64(len(d.strings)) {
		return d.strings[i]
	}
	return 1<<32 - 1
}

func (d *recordDecoding) head(start, duration, period int64) {
	n := d.number()
	if n > columns.MaxTypes {
		d.err, d.buf = fmt.Errorf("%d sample types", n), nil
		return
	}
	periodType := columns.ValueType{Type: d.string(), Unit: d.string()}
	types := make([]columns.ValueType, n)
	for i := range types {
		types[i] = columns.ValueType{Type: d.string(), Unit: d.string()}
	}
	d.types = len(types)
	d.b.SetHead(start, duration, period, periodType, types...)
}

func (d *recordDecoding) entries() {
	for range d.count() {
		d.b.Mapping(columns.Mapping{Start: d.number(), Limit: d.number(), Offset: d.number(), File: d.string(), BuildID: d.string(), Resolved: columns.Resolved(d.number())})
	}
	for range d.count() {
		d.b.Function(columns.Function{Name: d.string(), SystemName: d.string(), File: d.string(), StartLine: d.signed()})
	}
	var lines []columns.Line
	for range d.count() {
		l := columns.Location{Address: d.number(), Mapping: d.ref(), Folded: d.number() != 0}
		lines = lines[:0]
		for range d.count() {
			lines = append(lines, columns.Line{Function: d.ref(), Line: d.signed(), Column: d.signed()})
		}
		d.b.Location(l, lines...)
	}
	for range d.count() {
		d.b.Comment(d.string())
	}
}

func (d *recordDecoding) samples() {
	sets := make([]uint32, d.count())
	for i := range sets {
		labels := make([]columns.Label, d.count())
		for j := range labels {
			labels[j] = columns.Label{Key: d.string(), Text: d.string(), Unit: d.string(), Number: d.signed()}
		}
		sets[i] = d.b.LabelSet(labels)
	}
	var stack, before []uint32
	values := make([]int64, d.types)
	for range d.count() {
		set, shared := d.number(), d.number()
		stack = stack[:0]
		for range d.count() {
			stack = append(stack, d.ref())
		}
		if set >= uint64(len(sets)) || shared > uint64(len(before)) {
			d.err, d.buf = errors.New("a sample refers to what is not there"), nil
			return
		}
		stack = append(stack, before[len(before)-int(shared):]...)
		for i := range values {
			values[i] = int64(d.number())
		}
		if d.err == nil {
			d.b.Sample(stack, sets[set], values...)
		}
		stack, before = before, stack
	}
}
