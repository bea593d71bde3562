// SPDX-License-Identifier: Apache-2.0

package block

import (
	"cmp"
	"errors"
	"os"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/parquet-go/parquet-go"
)

const (
	// maxLabelColumns and maxLabelName, in bytes, bound the columns of labels.parquet.
	maxLabelColumns = 64
	maxLabelName    = 256
	// labelPageSets is how many sets a page of a column of labels has.
	labelPageSets = 4096
	// maxLabelTexts bounds the dictionary of a column of labels, in bytes. A label that says something
	// else of nearly every set has none, so that whoever reads a page need not read all texts.
	maxLabelTexts = 64 << 10
)

// The columns of labels.parquet: a number, what each of the most frequent text labels says, in order of their names,
// and a list of all other labels.
const (
	labelGroup      = "label"
	othersColumn    = "others"
	labelsBefore    = 1
	columnsOfOthers = 4
)

// labelSchema is that of labels.parquet with columns for labels of these names.
func labelSchema(names []string) *parquet.Schema {
	zstd := func(n parquet.Node) parquet.Node { return parquet.Compressed(n, &parquet.Zstd) }
	text := func() parquet.Node { return zstd(parquet.Encoded(parquet.String(), &parquet.RLEDictionary)) }
	labels := parquet.Group{}
	for _, name := range names {
		labels[name] = text()
	}
	return parquet.NewSchema("labels", parquet.Group{
		"id":       zstd(parquet.Encoded(parquet.Uint(32), &parquet.DeltaBinaryPacked)),
		labelGroup: labels,
		othersColumn: parquet.List(parquet.Group{
			"name": text(), "value": text(), "unit": text(), "number": zstd(parquet.Int(64)),
		}),
	})
}

// labelWriter writes labels.parquet.
type labelWriter struct {
	m        *merger
	names    []string // of the columns
	columnOf []int    // by label, that it is in, or -1
	values   []parquet.Value
	sets     []uint32 // of the dictionary, in the order of the block
	others   int
}

// writeLabels writes the label sets, and tells how many labels are not in a column of their own.
func (m *merger) writeLabels(w *writer) (others int) {
	l := &labelWriter{m: m, sets: placesOf(m.order)}
	l.choose()
	w.create(labelsFile, func(out *os.File) (int64, error) {
		t := parquet.NewWriter(out, labelSchema(l.names), parquet.DictionaryMaxBytes(maxLabelTexts))
		if err := l.write(t.ColumnWriters()); err != nil {
			return 0, err
		}
		if err := t.Close(); err != nil {
			return 0, err
		}
		return endOfPages(out)
	})
	return l.others
}

// choose gives the names that most sets have columns, that of the service in any case.
func (l *labelWriter) choose() {
	texts, labels := l.m.dict.Strings, l.m.dict.LabelSets.Labels()
	sets := map[string]int{serviceLabel: l.m.dict.LabelSets.Len()}
	for id := range l.sets {
		for _, n := range l.m.dict.LabelSets.Numbers(uint32(id)) {
			name := texts[labels[n].Key]
			if labels[n].Text != 0 && name != "" && name != serviceLabel && len(name) <= maxLabelName && utf8.ValidString(name) {
				sets[name]++
			}
		}
	}
	for name := range sets {
		l.names = append(l.names, name)
	}
	slices.SortFunc(l.names, func(a, b string) int { return cmp.Or(cmp.Compare(sets[b], sets[a]), strings.Compare(a, b)) })
	l.names = l.names[:min(len(l.names), maxLabelColumns)]
	slices.Sort(l.names)
	l.columnOf, l.values = make([]int, len(labels)), make([]parquet.Value, len(labels))
	for i, label := range labels {
		column, ok := slices.BinarySearch(l.names, texts[label.Key])
		if !ok || label.Text == 0 {
			column = -1
		}
		l.columnOf[i], l.values[i] = column, parquet.ValueOf(texts[label.Text])
	}
}

// write writes one column after the other.
func (l *labelWriter) write(columns []*parquet.ColumnWriter) error {
	err := l.writeColumn(columns[0], func(to []parquet.Value, set int) []parquet.Value {
		return append(to, parquet.ValueOf(uint32(set)))
	})
	none := parquet.ValueOf("")
	for c := range l.names {
		if err != nil {
			return err
		}
		err = l.writeColumn(columns[labelsBefore+c], func(to []parquet.Value, set int) []parquet.Value {
			for _, n := range l.numbers(set) {
				if l.columnOf[n] == c {
					return append(to, l.values[n])
				}
			}
			return append(to, none)
		})
	}
	for i, value := range l.otherValues() {
		if err != nil {
			return err
		}
		column := labelsBefore + len(l.names) + i
		err = l.writeColumn(columns[column], func(to []parquet.Value, set int) []parquet.Value {
			begin := len(to)
			for _, n := range l.rest(set) {
				repeated := min(1, len(to)-begin)
				to = append(to, value(n).Level(repeated, 1, column))
			}
			if len(to) == begin {
				to = append(to, parquet.NullValue().Level(0, 0, column))
			} else if i == 0 {
				l.others += len(to) - begin
			}
			return to
		})
	}
	return err
}

// writeColumn writes a column; values appends what a set has.
func (l *labelWriter) writeColumn(out *parquet.ColumnWriter, values func(to []parquet.Value, set int) []parquet.Value) error {
	var page []parquet.Value
	for first := 0; first < len(l.sets); first += labelPageSets {
		page = page[:0]
		for set := first; set < min(first+labelPageSets, len(l.sets)); set++ {
			page = values(page, set)
		}
		if _, err := out.WriteRowValues(page); err != nil {
			return err
		}
		if err := errors.Join(out.Flush(), l.m.ctx.Err()); err != nil {
			return err
		}
	}
	return nil
}

// numbers are the labels of a set of the block.
func (l *labelWriter) numbers(set int) []uint32 { return l.m.dict.LabelSets.Numbers(l.sets[set]) }

// rest are the labels of a set that are not in a column, or are the second of their name.
func (l *labelWriter) rest(set int) (rest []uint32) {
	all := l.numbers(set)
	for i, n := range all {
		c := l.columnOf[n]
		if c < 0 || slices.ContainsFunc(all[:i], func(before uint32) bool { return l.columnOf[before] == c }) {
			rest = append(rest, n)
		}
	}
	return rest
}

// otherValues give of a label what the columns of others have, in the order of these.
func (l *labelWriter) otherValues() [columnsOfOthers]func(label uint32) parquet.Value {
	text := func(i uint32) parquet.Value { return parquet.ValueOf(l.m.dict.Strings[i]) }
	labels := l.m.dict.LabelSets.Labels()
	return [...]func(label uint32) parquet.Value{
		func(n uint32) parquet.Value { return text(labels[n].Key) },
		func(n uint32) parquet.Value { return parquet.ValueOf(labels[n].Number) },
		func(n uint32) parquet.Value { return text(labels[n].Unit) },
		func(n uint32) parquet.Value { return text(labels[n].Text) },
	}
}
