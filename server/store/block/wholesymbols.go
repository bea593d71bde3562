// SPDX-License-Identifier: Apache-2.0

package block

import (
	"path/filepath"

	"github.com/fleetprof/fleetprof/server/dictionary"
)

// wholeSymbols are the symbols of a block without fingerprints as one page: those who ask need most of them, in
// an order in which pages would be read again and again.
type wholeSymbols struct {
	block     *Block
	locations int
	columns   int // of locations.parquet
}

func (s wholeSymbols) Len() int     { return s.locations }
func (s wholeSymbols) PageLen() int { return max(1, s.locations) }

func (s wholeSymbols) Fingerprints() ([]dictionary.Fingerprint, error) { return nil, nil }

func (b *Block) openWholeSymbols() (dictionary.Symbols, error) {
	s := wholeSymbols{block: b, locations: b.Locations, columns: locationColumns}
	if b.Version != version2 {
		return s, nil
	}
	s.columns--
	err := b.readColumns(locationsFile, s.columns, func(t *tableReader) { s.locations = t.rows })
	return s, err
}

func (s wholeSymbols) Page(int) (*dictionary.Dictionary, error) {
	b, d := s.block, &dictionary.Dictionary{Strings: []string{""}}
	number := func(text string) uint32 { return addText(&d.Strings, text) }
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
	if err := b.readColumns(locationsFile, s.columns, func(t *tableReader) { d.Locations = readLocations(t) }); err != nil {
		return nil, err
	}
	ok := true
	for _, l := range d.Locations {
		ok = ok && int(l.Mapping) <= len(d.Mappings)
		for _, line := range l.Lines {
			ok = ok && int(line.Function) < len(d.Functions)
		}
	}
	if !ok || len(d.Locations) != s.locations {
		return nil, &DamagedError{filepath.Join(b.dir, locationsFile), errReference}
	}
	return d, nil
}
