// SPDX-License-Identifier: Apache-2.0

package dictionary

import "github.com/fleetprof/fleetprof/server/columns"

// LabelSets are sets of labels, by number. A set is a few numbers of labels: there are as many sets
// as there are processes, and most of what they say they have in common.
type LabelSets struct {
	labels []columns.Label
	of     []uint32 // the labels of all sets, one set after the other
	ends   []uint32 // for each set, where it ends in of
}

// Len is how many sets there are.
func (s *LabelSets) Len() int { return len(s.ends) }

// Count is how many labels a set has.
func (s *LabelSets) Count(set uint32) int { return len(s.Numbers(set)) }

// At gives label i of a set.
func (s *LabelSets) At(set uint32, i int) columns.Label { return s.labels[s.Numbers(set)[i]] }

// Labels are those that sets consist of.
func (s *LabelSets) Labels() []columns.Label { return s.labels }

// Numbers are those of the labels of a set, among Labels.
func (s *LabelSets) Numbers(set uint32) []uint32 {
	start := uint32(0)
	if set > 0 {
		start = s.ends[set-1]
	}
	return s.of[start:s.ends[set]]
}

// Add adds a set. Of labels that are known, by their numbers, no other copy is made; whoever adds
// few sets needs no such map.
func (s *LabelSets) Add(known map[columns.Label]uint32, labels ...columns.Label) {
	for _, l := range labels {
		n, ok := known[l]
		if !ok {
			n = s.Label(l)
			if known != nil {
				known[l] = n
			}
		}
		s.of = append(s.of, n)
	}
	s.ends = append(s.ends, uint32(len(s.of)))
}

// Label adds a label that sets may have, and gives its number.
func (s *LabelSets) Label(l columns.Label) uint32 {
	s.labels = append(s.labels, l)
	return uint32(len(s.labels) - 1)
}

// AddNumbered adds a set of labels by their numbers.
func (s *LabelSets) AddNumbered(labels ...uint32) {
	s.of = append(s.of, labels...)
	s.ends = append(s.ends, uint32(len(s.of)))
}

// size is how many bytes of memory s holds.
func (s *LabelSets) size() int64 {
	return 24*int64(len(s.labels)) + 4*int64(len(s.of)+len(s.ends))
}
