// SPDX-License-Identifier: Apache-2.0

package block

import (
	"path/filepath"
	"slices"

	"github.com/fleetprof/fleetprof/server/columns"
	"github.com/fleetprof/fleetprof/server/dictionary"
)

// version2 is that of blocks in which labels.parquet has a row for each label of a set, and locations have no
// fingerprints. They are read, and no longer written.
const version2 = 2

// readLabels2 reads all label sets of such a block.
func (b *Block) readLabels2() (Labels, error) {
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
	if sets := index.Series.labelSets; len(sets) > 0 && int(slices.Max(sets)) >= d.LabelSets.Len() {
		return nil, &DamagedError{filepath.Join(b.dir, seriesFile), errReference}
	}
	return LabelsOf(d), nil
}

// readSymbols2 reads all symbols of such a block.
func (b *Block) readSymbols2() (dictionary.Symbols, error) {
	d := &dictionary.Dictionary{Strings: []string{""}}
	number := func(text string) uint32 {
		if text == "" {
			return 0
		}
		d.Strings = append(d.Strings, text)
		return uint32(len(d.Strings) - 1)
	}
	mappings, err := readTable[mappingRecord](b, mappingsFile)
	if err != nil {
		return nil, err
	}
	for _, m := range mappings {
		d.Mappings = append(d.Mappings, m.mapping(number))
	}
	if err := b.readColumns(functionsFile, functionColumns, func(t *tableReader) { d.Functions = readFunctions(t, number) }); err != nil {
		return nil, err
	}
	if err := b.readColumns(locationsFile, locationColumns-1, func(t *tableReader) { d.Locations = readLocations(t) }); err != nil {
		return nil, err
	}
	ok := true
	for _, l := range d.Locations {
		ok = ok && int(l.Mapping) <= len(d.Mappings)
		for _, line := range l.Lines {
			ok = ok && int(line.Function) < len(d.Functions)
		}
	}
	if !ok {
		return nil, &DamagedError{filepath.Join(b.dir, locationsFile), errReference}
	}
	return dictionary.AllSymbols{Dictionary: d}, nil
}
