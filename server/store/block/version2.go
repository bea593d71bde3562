// SPDX-License-Identifier: Apache-2.0

package block

import (
	"path/filepath"

	"github.com/fleetprof/fleetprof/server/columns"
	"github.com/fleetprof/fleetprof/server/dictionary"
)

// version2 is that of blocks in which labels.parquet has a row for each label of a set, and locations have no
// fingerprints. They are read, and no longer written.
const version2 = 2

// labels2 are the labels of such a block, all of which are read once one is asked for.
type labels2 struct {
	block *Block
	sets  int
	read  *dictionary.Dictionary // once it has been
}

func (l *labels2) Len() int { return l.sets }

func (l *labels2) Size() int64 {
	if l.read == nil {
		return 0
	}
	return l.read.Size()
}

func (l *labels2) Names() ([]string, error) {
	d, err := l.all()
	if err != nil {
		return nil, err
	}
	return dictionaryLabels{d}.Names()
}

func (l *labels2) Column(name string) (*LabelColumn, error) {
	d, err := l.all()
	if err != nil {
		return nil, err
	}
	return dictionaryLabels{d}.Column(name)
}

func (l *labels2) Sets(_ []bool, names []string) (*dictionary.Dictionary, error) {
	if names == nil || len(names) > 0 {
		return l.all()
	}
	d := &dictionary.Dictionary{Strings: []string{""}}
	for range l.sets {
		d.LabelSets.AddNumbered()
	}
	return d, nil
}

func (l *labels2) all() (*dictionary.Dictionary, error) {
	if l.read == nil {
		d, err := l.block.readLabels2()
		if err != nil {
			return nil, err
		}
		if d.LabelSets.Len() != l.sets {
			return nil, &DamagedError{filepath.Join(l.block.dir, labelsFile), errReference}
		}
		l.read = d
	}
	return l.read, nil
}

// readLabels2 reads all label sets of such a block.
func (b *Block) readLabels2() (*dictionary.Dictionary, error) {
	strings := newStrings()
	d := &dictionary.Dictionary{}
	ok := true
	err := b.readColumns(labelsFile, 5, func(t *tableReader) {
		sets, names, texts, numbers, units := t.uint32s(0), t.texts(1, strings.number), t.texts(2, strings.number), t.int64s(3), t.texts(4, strings.number)
		known := map[columns.Label]uint32{}
		var set []columns.Label
		for i := range sets {
			l := columns.Label{Key: names[i], Text: texts[i], Number: numbers[i], Unit: units[i]}
			if l != (columns.Label{}) { // which stands for a set without labels
				set = append(set, l)
			}
			if i+1 < len(sets) && sets[i+1] == sets[i] {
				continue
			}
			// Those of one set stand together, and none is left out.
			if int(sets[i]) != d.LabelSets.Len() {
				ok = false
				return
			}
			d.LabelSets.Add(known, set...)
			set = set[:0]
		}
	})
	if err == nil && !ok {
		err = &DamagedError{filepath.Join(b.dir, labelsFile), errReference}
	}
	if err != nil {
		return nil, err
	}
	d.Strings = strings.all
	return d, nil
}
