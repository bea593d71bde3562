// SPDX-License-Identifier: Apache-2.0

package columns

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unicode/utf8"
)

// Builder makes a Profile from another format than pprof, under the limits of
// Decode. Entries are numbered from 0 in the order in which they are added; they
// may refer to those that were added before them only. The first mistake is the
// error of Finish; after it nothing more is added, so that what is built stays
// bounded however long the input is. A Builder is not safe for concurrent use.
type Builder struct {
	p         *Profile
	err       error
	text      int // bytes of all strings
	strings   map[string]uint32
	labelSets map[string]uint32
	key       []byte
}

// NewBuilder makes a Builder of a profile with a name, see Profile.Name.
func NewBuilder(name string) *Builder {
	return &Builder{
		p:         &Profile{Name: name, Strings: []string{""}},
		strings:   map[string]uint32{"": 0},
		labelSets: map[string]uint32{},
	}
}

// SetHead sets what is there once; start, duration and period are those of
// Profile. It must be called before the first Sample.
func (b *Builder) SetHead(start, duration, period int64, periodType ValueType, types ...ValueType) {
	p := b.p
	p.Start, p.Duration, p.Period = start, duration, period
	p.PeriodType, p.Types = periodType, types
	p.Values = make([][]int64, len(types))
	b.fail(p.checkHead())
}

// String gives the number of a string.
func (b *Builder) String(s string) uint32 {
	if id, ok := b.strings[s]; ok {
		return id
	}
	if !utf8.ValidString(s) {
		b.fail(fmt.Errorf("read string %d: invalid UTF-8", len(b.p.Strings)))
	}
	b.text += len(s)
	b.fail(bounded(b.text, "bytes of strings", MaxBytes))
	id, ok := b.next(len(b.p.Strings))
	if ok {
		b.p.Strings = append(b.p.Strings, s)
		b.strings[s] = id
	}
	return id
}

// Comment adds a remark about the whole profile, by the number of its string.
func (b *Builder) Comment(c uint32) {
	if int64(c) >= int64(len(b.p.Strings)) {
		b.fail(b.p.missingString(uint64(c)))
	}
	if _, ok := b.next(len(b.p.Comments)); ok {
		b.p.Comments = append(b.p.Comments, c)
	}
}

// Mapping adds a mapping and gives its number.
func (b *Builder) Mapping(m Mapping) uint32 {
	id, ok := b.next(len(b.p.Mappings))
	if ok {
		b.p.Mappings = append(b.p.Mappings, m)
	}
	return id
}

// Function adds a function and gives its number.
func (b *Builder) Function(f Function) uint32 {
	id, ok := b.next(len(b.p.Functions))
	if ok {
		b.p.Functions = append(b.p.Functions, f)
	}
	return id
}

// Location adds a location and gives its number. Of l all is taken, so Mapping is
// the number of a mapping plus 1; the innermost inlined call is the first of lines.
func (b *Builder) Location(l Location, lines ...Line) uint32 {
	if int64(l.Mapping) > int64(len(b.p.Mappings)) {
		b.fail(fmt.Errorf("find mapping %d: there are %d", l.Mapping-1, len(b.p.Mappings)))
	}
	for _, line := range lines {
		if int64(line.Function) >= int64(len(b.p.Functions)) {
			b.fail(fmt.Errorf("find function %d: there are %d", line.Function, len(b.p.Functions)))
		}
	}
	b.fail(bounded(len(b.p.Lines)+len(lines), "lines", maxEntries))
	id, ok := b.next(len(b.p.Locations))
	if ok {
		b.p.Lines = append(b.p.Lines, lines...)
		l.lineEnd = uint32(len(b.p.Lines))
		b.p.Locations = append(b.p.Locations, l)
	}
	return id
}

// LabelSet gives the number of a set of labels. Equal sets have equal numbers.
func (b *Builder) LabelSet(labels []Label) uint32 {
	b.fail(bounded(len(labels), "labels of a sample", maxLabels))
	if b.err != nil {
		return 0
	}
	b.key = b.key[:0]
	for _, l := range labels {
		b.key = binary.AppendUvarint(b.key, uint64(l.Key)<<32|uint64(l.Text))
		b.key = binary.AppendUvarint(binary.AppendVarint(b.key, l.Number), uint64(l.Unit))
	}
	if id, ok := b.labelSets[string(b.key)]; ok {
		return id
	}
	b.fail(bounded(len(b.p.labels)+len(labels), "distinct labels", maxEntries))
	id, ok := b.next(len(b.p.labelSetEnd))
	if ok {
		b.labelSets[string(b.key)] = id
		b.p.labels = append(b.p.labels, labels...)
		b.p.labelSetEnd = append(b.p.labelSetEnd, uint32(len(b.p.labels)))
	}
	return id
}

// Sample adds a sample: the numbers of its locations, innermost first, the number
// of its label set, and a value for each sample type.
func (b *Builder) Sample(stack []uint32, labelSet uint32, values ...int64) {
	p := b.p
	switch {
	case len(values) != len(p.Values):
		b.fail(fmt.Errorf("read sample %d: %d values, want one for each of %d sample types", p.Len(), len(values), len(p.Values)))
	case int64(labelSet) >= int64(len(p.labelSetEnd)):
		b.fail(fmt.Errorf("find label set %d: there are %d", labelSet, len(p.labelSetEnd)))
	}
	for _, l := range stack {
		if int64(l) >= int64(len(p.Locations)) {
			b.fail(fmt.Errorf("find location %d: there are %d", l, len(p.Locations)))
		}
	}
	b.fail(bounded(len(stack), "locations in a stack", maxDepth))
	b.fail(bounded(len(p.frames)+len(stack), "frames", maxFrames))
	if _, ok := b.next(p.Len()); !ok {
		return
	}
	for i, v := range values {
		p.Values[i] = append(p.Values[i], v)
	}
	p.frames = append(p.frames, stack...)
	p.stackEnd = append(p.stackEnd, uint32(len(p.frames)))
	p.LabelSet = append(p.LabelSet, labelSet)
}

// Finish checks the whole and gives it. The Builder is of no more use.
func (b *Builder) Finish() (*Profile, error) {
	p := b.p
	if p.Name == "" || !utf8.ValidString(p.Name) {
		b.fail(errors.New("read name: it is empty or invalid UTF-8"))
	}
	if b.err == nil {
		b.err = p.check()
	}
	if b.err != nil {
		return nil, fmt.Errorf("check profile: %w", b.err)
	}
	return p, nil
}

// next gives the number of a new entry beside n others, and reports whether it
// may be added.
func (b *Builder) next(n int) (id uint32, ok bool) {
	b.fail(bounded(n+1, "entries of one kind", maxEntries))
	if b.err != nil {
		return 0, false
	}
	return uint32(n), true
}

func (b *Builder) fail(err error) {
	if b.err == nil {
		b.err = err
	}
}
