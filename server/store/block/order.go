// SPDX-License-Identifier: Apache-2.0

package block

import (
	"cmp"
	"slices"
	"strings"

	"github.com/fleetprof/fleetprof/server/dictionary"
)

// setKey is what label sets are put in order by: labels are numbers in the order of what they say,
// those of service and source plus 1, or 0 for none.
type setKey struct {
	service, source uint32
	all             []uint32
}

// orderSets gives for each label set its place among all, where sets of one service stand together,
// and within it those of one host. Stacks are numbered as they are met: so those of a service
// lie together too. There may be a million sets: no text is made of one.
func orderSets(d *dictionary.Dictionary) []uint32 {
	rank := rankLabels(d)
	labels, total := d.LabelSets.Labels(), 0
	keys, ids := make([]setKey, d.LabelSets.Len()), make([]uint32, d.LabelSets.Len())
	for i := range ids {
		ids[i] = uint32(i)
		total += d.LabelSets.Count(uint32(i))
	}
	all := make([]uint32, 0, total)
	for i := range keys {
		start := len(all)
		for _, n := range d.LabelSets.Numbers(uint32(i)) {
			all = append(all, rank[n])
			switch l := labels[n]; {
			case l.Text == 0:
			case d.Strings[l.Key] == serviceLabel:
				keys[i].service = rank[n] + 1
			case d.Strings[l.Key] == sourceLabel:
				keys[i].source = rank[n] + 1
			}
		}
		keys[i].all = all[start:]
		slices.Sort(keys[i].all)
	}
	slices.SortFunc(ids, func(i, j uint32) int {
		a, b := &keys[i], &keys[j]
		return cmp.Or(cmp.Compare(a.service, b.service), cmp.Compare(a.source, b.source), slices.Compare(a.all, b.all))
	})
	return placesOf(ids)
}

// rankLabels gives for each label its place among all by what it says.
func rankLabels(d *dictionary.Dictionary) []uint32 {
	labels := d.LabelSets.Labels()
	ids := make([]uint32, len(labels))
	for i := range ids {
		ids[i] = uint32(i)
	}
	slices.SortFunc(ids, func(i, j uint32) int {
		a, b := labels[i], labels[j]
		return cmp.Or(strings.Compare(d.Strings[a.Key], d.Strings[b.Key]), strings.Compare(d.Strings[a.Text], d.Strings[b.Text]),
			cmp.Compare(a.Number, b.Number), strings.Compare(d.Strings[a.Unit], d.Strings[b.Unit]))
	})
	return placesOf(ids)
}

// placesOf gives for each number where it stands among all.
func placesOf(ids []uint32) []uint32 {
	places := make([]uint32, len(ids))
	for place, id := range ids {
		places[id] = uint32(place)
	}
	return places
}

// order numbers entries anew, in the order in which they are first added: those that stacks of one service refer to
// lie together, however many parts they are from.
type order struct {
	all    []uint32 // the old numbers
	places []uint32 // by the old number, the new one plus 1, or 0 for none
}

func newOrder(n int) *order { return &order{places: make([]uint32, n)} }

func (o *order) add(i uint32) {
	if o.places[i] == 0 {
		o.all = append(o.all, i)
		o.places[i] = uint32(len(o.all))
	}
}
