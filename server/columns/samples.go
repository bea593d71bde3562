// SPDX-License-Identifier: Apache-2.0

package columns

import (
	"encoding/binary"
	"fmt"
)

// sample reads one Sample message. Most samples of a window share their labels
// with many others, so these are decoded once for each distinct set of bytes.
func (d *decoder) sample(m *message) error {
	p := d.p
	start, labels := len(d.frames), 0
	d.values, d.labelKey = d.values[:0], d.labelKey[:0]
	f := m.sub()
	for f.next() {
		switch f.field {
		case 1:
			d.frames = f.appendUints(d.frames, "frames", maxFrames)
		case 2:
			d.values = f.appendUints(d.values, "values of a sample", maxEntries)
		case 3:
			b := f.data()
			d.labelKey = binary.AppendUvarint(d.labelKey, uint64(len(b)))
			d.labelKey = append(d.labelKey, b...)
			labels++
		}
	}
	f.fail(bounded(len(d.frames)-start, "locations in a stack", maxDepth))
	f.fail(bounded(labels, "labels of a sample", maxLabels))
	if f.err != nil {
		return f.err
	}
	if len(d.values) != len(p.Values) {
		return fmt.Errorf("read sample %d: %d values, want one for each of %d sample types", p.Len(), len(d.values), len(p.Values))
	}
	set, err := d.labelSet()
	if err != nil {
		return err
	}
	for i, v := range d.values {
		p.Values[i] = append(p.Values[i], int64(v))
	}
	p.LabelSet = append(p.LabelSet, set)
	p.stackEnd = append(p.stackEnd, uint32(len(d.frames)))
	return nil
}

// labelSet gives the number of the label set whose messages are in labelKey,
// each with its length before it.
func (d *decoder) labelSet() (uint32, error) {
	if set, ok := d.labelSets[string(d.labelKey)]; ok {
		return set, nil
	}
	set := uint32(len(d.labelSets))
	d.labelSets[string(d.labelKey)] = set
	key := message{buf: d.labelKey}
	for key.more() {
		key.fail(d.label(key.take(key.varint())))
	}
	key.fail(bounded(len(d.p.labels), "distinct labels", maxEntries))
	d.p.labelSetEnd = append(d.p.labelSetEnd, uint32(len(d.p.labels)))
	return set, key.err
}

func (d *decoder) label(b []byte) error {
	var to Label
	f := message{buf: b}
	for f.next() {
		switch f.field {
		case 1:
			to.Key = f.ref()
		case 2:
			to.Text = f.ref()
		case 3:
			to.Number = f.int()
		case 4:
			to.Unit = f.ref()
		}
	}
	d.p.labels = append(d.p.labels, to)
	return f.err
}
