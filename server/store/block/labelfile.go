// SPDX-License-Identifier: Apache-2.0

package block

import (
	"errors"
	"fmt"
	"slices"

	"github.com/parquet-go/parquet-go"

	"github.com/fleetprof/fleetprof/server/columns"
	"github.com/fleetprof/fleetprof/server/dictionary"
)

// Labels opens the label sets.
func (b *Block) Labels(sets int) (Labels, error) {
	if b.Version == version2 {
		return &labels2{block: b, sets: sets}, nil
	}
	o, err := b.pagesOf(&b.labels, labelsFile, anyColumns, int64(b.LabelSets))
	if err != nil {
		return nil, err
	}
	f := &labelFile{block: b, open: o, columns: map[string]int{}}
	all := o.schema.Columns()
	for i, path := range all[:max(0, len(all)-columnsOfOthers)] {
		leaf, _ := o.schema.Lookup(path...)
		switch {
		case i < labelsBefore:
		case len(path) == 2 && path[0] == labelGroup && leaf.MaxDefinitionLevel == 0 && leaf.Node.Type().Kind() == parquet.ByteArray:
			f.names = append(f.names, path[1])
			f.columns[path[1]] = i
		default:
			return nil, &DamagedError{o.path, fmt.Errorf("column %q is none of label sets", path)}
		}
	}
	return f, nil
}

// labelFile are the labels of a block.
type labelFile struct {
	block   *Block
	open    *pagedFile
	names   []string       // of the columns, sorted
	columns map[string]int // by name
	others  *otherLabels   // once they have been read
}

func (f *labelFile) Len() int { return f.block.LabelSets }

func (f *labelFile) Size() int64 {
	if f.others == nil {
		return 0
	}
	return 24*int64(len(f.others.labels)) + 8*int64(len(f.others.ends)) + sizeOfTexts(f.others.texts)
}

func (f *labelFile) Names() ([]string, error) {
	others, err := f.readOthers()
	if err != nil {
		return nil, err
	}
	names := slices.Clone(f.names)
	services, err := f.Column(serviceLabel)
	if err != nil {
		return nil, err
	}
	if len(services.Texts) == 1 { // its column is there all the same
		names = slices.DeleteFunc(names, func(name string) bool { return name == serviceLabel })
	}
	for _, l := range others.labels {
		names = append(names, others.texts[l.Key])
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

func (f *labelFile) Column(name string) (_ *LabelColumn, err error) {
	number, ok := f.columns[name]
	if !ok {
		return f.otherColumn(name)
	}
	in := f.texts(number)
	defer func() { err = errors.Join(err, in.close()) }()
	defer guard(f.open.path, &err)
	c := &LabelColumn{}
	for set := 0; set < f.Len(); set += labelPageSets {
		texts, err := in.read(int64(set), min(labelPageSets, f.Len()-set))
		if err != nil {
			return nil, &DamagedError{f.open.path, err}
		}
		for _, text := range texts {
			c.add(text)
		}
	}
	c.Texts = compact(in.all)
	return c, nil
}

func (f *labelFile) otherColumn(name string) (*LabelColumn, error) {
	others, err := f.readOthers()
	if err != nil {
		return nil, err
	}
	c := &LabelColumn{Texts: []string{""}}
	for set := range f.Len() {
		text := uint32(0)
		for _, l := range others.of(set) {
			if l.Text != 0 && others.texts[l.Key] == name {
				text = uint32(len(c.Texts))
				c.Texts = append(c.Texts, others.texts[l.Text])
				break
			}
		}
		c.add(text)
	}
	return c, nil
}

func (f *labelFile) Sets(selected []bool, names []string) (_ *dictionary.Dictionary, err error) {
	others := &otherLabels{}
	if names == nil || len(names) > 0 {
		if others, err = f.readOthers(); err != nil {
			return nil, err
		}
	}
	s := &setReader{others: others, known: map[columns.Label]uint32{}, d: &dictionary.Dictionary{Strings: []string{""}}}
	for _, name := range f.names {
		if names == nil || slices.Contains(names, name) {
			s.readers = append(s.readers, &labelReader{textReader: f.texts(f.columns[name]), key: s.text(name)})
		}
	}
	defer func() { err = errors.Join(err, s.close()) }()
	defer guard(f.open.path, &err)
	for first := 0; first < f.Len(); {
		if selected != nil && !selected[first] {
			s.d.LabelSets.AddNumbered()
			first++
			continue
		}
		end := first + 1
		for end < min(f.Len(), first+labelPageSets) && (selected == nil || selected[end]) {
			end++
		}
		if err := s.read(first, end); err != nil {
			return nil, &DamagedError{f.open.path, err}
		}
		first = end
	}
	s.d.Strings = compact(s.d.Strings)
	return s.d, nil
}

// setReader makes a dictionary of label sets that are read.
type setReader struct {
	readers []*labelReader
	others  *otherLabels
	known   map[columns.Label]uint32 // of others, their numbers in d
	d       *dictionary.Dictionary
	set     []uint32
	columns [][]uint32
}

func (s *setReader) text(t string) uint32 { return addText(&s.d.Strings, t) }

func (s *setReader) close() error {
	errs := make([]error, len(s.readers))
	for i, r := range s.readers {
		errs[i] = r.close()
	}
	return errors.Join(errs...)
}

// read adds the sets from first up to end.
func (s *setReader) read(first, end int) error {
	s.columns = s.columns[:0]
	for _, r := range s.readers {
		texts, err := r.read(int64(first), end-first)
		if err != nil {
			return err
		}
		s.columns = append(s.columns, texts)
	}
	for i := range end - first {
		s.set = s.set[:0]
		for c, texts := range s.columns {
			if texts[i] != 0 {
				s.set = append(s.set, s.readers[c].label(s, texts[i]))
			}
		}
		for _, l := range s.others.of(first + i) {
			s.set = append(s.set, s.other(l))
		}
		s.d.LabelSets.AddNumbered(s.set...)
	}
	return nil
}

// other gives the number of a label that is not in a column.
func (s *setReader) other(l columns.Label) uint32 {
	n, ok := s.known[l]
	if !ok {
		text := func(i uint32) uint32 { return s.text(s.others.texts[i]) }
		n = s.d.LabelSets.Label(columns.Label{Key: text(l.Key), Text: text(l.Text), Number: l.Number, Unit: text(l.Unit)})
		s.known[l] = n
	}
	return n
}

// labelReader makes labels of the texts of a column.
type labelReader struct {
	*textReader
	key    uint32
	labels []uint32 // by text, its number plus 1, or 0 if it was not asked for yet
}

func (r *labelReader) label(s *setReader, text uint32) uint32 {
	if missing := len(r.all) - len(r.labels); missing > 0 {
		r.labels = append(r.labels, make([]uint32, missing)...)
	}
	if r.labels[text] == 0 {
		r.labels[text] = s.d.LabelSets.Label(columns.Label{Key: r.key, Text: s.text(r.all[text])}) + 1
	}
	return r.labels[text] - 1
}

// textReader reads a column of strings as their numbers among all texts that it has met.
type textReader struct {
	*column[uint32]
	all []string
}

func (f *labelFile) texts(number int) *textReader {
	r := &textReader{all: []string{""}}
	texts := texts{number: r.number}
	r.column = newColumn(f.open, number, texts.take)
	return r
}

func (r *textReader) number(text string) uint32 {
	switch {
	case text == "":
		return 0
	case text != r.all[len(r.all)-1]: // equal ones mostly follow each other
		r.all = append(r.all, text)
	}
	return uint32(len(r.all) - 1)
}

// otherLabels are the labels that are not in a column of their own.
type otherLabels struct {
	texts  []string
	labels []columns.Label // with numbers of texts
	ends   []int           // of each set; none if there are no labels
}

// of gives those of a set.
func (o *otherLabels) of(set int) []columns.Label {
	if len(o.ends) == 0 {
		return nil
	}
	first := 0
	if set > 0 {
		first = o.ends[set-1]
	}
	return o.labels[first:o.ends[set]]
}

func (f *labelFile) readOthers() (_ *otherLabels, err error) {
	if f.others != nil {
		return f.others, nil
	}
	o := &otherLabels{}
	if f.block.OtherLabels == 0 {
		return o, nil
	}
	defer guard(f.open.path, &err)
	t := f.open.table(0, f.Len())
	strings := newStrings()
	first := labelsBefore + len(f.names)
	lengths := t.lengths(first)
	names, numbers, units, values := t.elementTexts(first, strings.number), t.elements64(first+1), t.elementTexts(first+2, strings.number), t.elementTexts(first+3, strings.number)
	ok := len(names) == f.block.OtherLabels && len(numbers) == len(names) && len(units) == len(names) && len(values) == len(names)
	for _, n := range lengths {
		end := n
		if len(o.ends) > 0 {
			end += o.ends[len(o.ends)-1]
		}
		ok = ok && end <= len(names)
		o.ends = append(o.ends, end)
	}
	if t.err == nil && !ok {
		t.err = errReference
	}
	if t.err != nil {
		return nil, &DamagedError{f.open.path, t.err}
	}
	o.texts = strings.all
	for i, name := range names {
		o.labels = append(o.labels, columns.Label{Key: name, Text: values[i], Number: numbers[i], Unit: units[i]})
	}
	f.others = o
	return o, nil
}
