// SPDX-License-Identifier: Apache-2.0

package columns

import (
	"fmt"
	"slices"
	"time"
)

// The types the store takes, as type and unit, in this order.
var wantTypes = [...][2]string{{"samples", "count"}, {"cpu", "nanoseconds"}}

// finishStrings makes the string table and checks every reference to it.
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
			return d.missingString(int64(ref))
		}
	}
	for _, c := range d.comments {
		d.p.Comments = append(d.p.Comments, uint32(c))
	}
	for _, m := range d.p.Mappings {
		if r := max(m.File, m.BuildID); !d.hasString(r) {
			return d.missingString(int64(r))
		}
	}
	for _, f := range d.p.Functions {
		if r := max(f.Name, f.SystemName, f.File); !d.hasString(r) {
			return d.missingString(int64(r))
		}
	}
	for _, l := range d.p.labels {
		if r := max(l.Key, l.Text, l.Unit); !d.hasString(r) {
			return d.missingString(int64(r))
		}
	}
	return nil
}

func (d *decoder) hasString(ref uint32) bool { return int(ref) < len(d.p.Strings) }

func (d *decoder) missingString(ref int64) error {
	return fmt.Errorf("find string %d: there are %d", ref, len(d.p.Strings))
}

// finishTypes checks the head of the profile.
func (d *decoder) finishTypes() error {
	if len(d.sampleTypes) != len(wantTypes) {
		return fmt.Errorf("read sample types: there are %d, want samples/count and cpu/nanoseconds", len(d.sampleTypes))
	}
	for i, t := range d.sampleTypes {
		if err := d.checkType("sample type", t, wantTypes[i]); err != nil {
			return err
		}
	}
	if err := d.checkType("period type", d.periodType, wantTypes[1]); err != nil {
		return err
	}
	p := d.p
	switch {
	case p.Start <= 0:
		return fmt.Errorf("read time: it is missing or before 1970")
	case p.Duration <= 0 || p.Duration > int64(MaxDuration):
		return fmt.Errorf("read duration: %v, want more than 0 and at most %v", time.Duration(p.Duration), MaxDuration)
	case p.Start+p.Duration < 0:
		return fmt.Errorf("read time: the profile ends after the year 2262")
	case p.Period <= 0:
		return fmt.Errorf("read period: %d, want more than 0", p.Period)
	}
	return nil
}

func (d *decoder) checkType(what string, got [2]int64, want [2]string) error {
	for i, ref := range got {
		if ref < 0 || ref >= int64(len(d.p.Strings)) {
			return d.missingString(ref)
		}
		if d.p.Strings[ref] != want[i] {
			return fmt.Errorf("read %s: %q, want %s/%s", what, d.p.Strings[ref], want[0], want[1])
		}
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

// finishSamples turns the IDs that stacks refer to into indexes and checks the
// values.
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
	for i, column := range [...][]int64{d.p.Count, d.p.CPU} {
		var sum int64
		for _, v := range column {
			if v < 0 {
				return fmt.Errorf("read samples: a value of %s is %d, want 0 or more", wantTypes[i][0], v)
			}
			if sum += min(v, maxTotal+1); sum > maxTotal {
				return fmt.Errorf("read samples: the sum of %s is above %d", wantTypes[i][0], int64(maxTotal))
			}
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
