// SPDX-License-Identifier: Apache-2.0

package columns

import (
	"fmt"
	"slices"
)

// finishStrings makes the string table. References to it from what is kept are
// checked by Profile.check.
func (d *decoder) finishStrings() error {
	if len(d.stringEnd) == 0 {
		return fmt.Errorf("read strings: there are none")
	}
	text, start := d.text.String(), 0
	d.p.Strings = make([]string, len(d.stringEnd))
	for i, end := range d.stringEnd {
		d.p.Strings[i] = text[start:end]
		start = end
	}
	for _, ref := range slices.Concat(d.unused, d.comments) {
		if ref >= uint64(len(d.p.Strings)) {
			return d.p.missingString(ref)
		}
	}
	for _, c := range d.comments {
		d.p.Comments = append(d.p.Comments, uint32(c))
	}
	return nil
}

// finishLocations turns the IDs that locations and lines refer to into indexes.
func (d *decoder) finishLocations() error {
	mappings, err := newIDs("mapping", d.mappingIDs)
	if err != nil {
		return err
	}
	functions, err := newIDs("function", d.functionIDs)
	if err != nil {
		return err
	}
	for i, id := range d.locationMappings {
		if id == 0 {
			continue
		}
		index, err := mappings.index(id)
		if err != nil {
			return err
		}
		d.p.Locations[i].Mapping = index + 1
	}
	for i, id := range d.lineFunctions {
		if d.p.Lines[i].Function, err = functions.index(id); err != nil {
			return err
		}
	}
	return nil
}

// finishSamples turns the IDs that stacks refer to into indexes.
func (d *decoder) finishSamples() error {
	locations, err := newIDs("location", d.locationIDs)
	if err != nil {
		return err
	}
	d.p.frames = make([]uint32, len(d.frames))
	for i, id := range d.frames {
		if d.p.frames[i], err = locations.index(id); err != nil {
			return err
		}
	}
	return nil
}

// ids finds the index of an entry by its ID. Encoders usually count from 1, so
// that the ID itself tells the index and no map is needed.
type ids struct {
	what  string
	dense uint64 // the IDs 1 to dense are in order
	other map[uint64]uint32
}

func newIDs(what string, all []uint64) (*ids, error) {
	x := &ids{what: what}
	for x.dense < uint64(len(all)) && all[x.dense] == x.dense+1 {
		x.dense++
	}
	for i, id := range all[x.dense:] {
		if x.other == nil {
			x.other = make(map[uint64]uint32, len(all))
		}
		if _, err := x.index(id); id == 0 || err == nil {
			return nil, fmt.Errorf("read %s %d: the ID is 0 or given twice", what, id)
		}
		x.other[id] = uint32(x.dense) + uint32(i)
	}
	return x, nil
}

func (x *ids) index(id uint64) (uint32, error) {
	if id-1 < x.dense { // wraps for 0
		return uint32(id - 1), nil
	}
	if i, ok := x.other[id]; ok {
		return i, nil
	}
	return 0, fmt.Errorf("find %s %d: it is not in the profile", x.what, id)
}
