// SPDX-License-Identifier: Apache-2.0

package block

import (
	"path/filepath"
	"slices"

	"github.com/fleetprof/fleetprof/server/columns"
	"github.com/fleetprof/fleetprof/server/dictionary"
)

// longLabels is the version of blocks in which labels.parquet has a row for each label of a set. They
// are read, and no longer written.
const longLabels = 2

// readLongLabels reads all label sets of such a block.
func (b *Block) readLongLabels() (Labels, error) {
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
	index, err := b.Index()
	if err != nil {
		return nil, err
	}
	if slices.ContainsFunc(index.Series, func(s Series) bool { return int(s.LabelSet) >= d.LabelSets.Len() }) {
		return nil, &DamagedError{filepath.Join(b.dir, seriesFile), errReference}
	}
	return LabelsOf(d), nil
}
