// SPDX-License-Identifier: Apache-2.0

package block

import (
	"iter"
	"maps"
	"slices"
	"sort"

	"github.com/fleetprof/fleetprof/server/dictionary"
)

// Labels are the label sets of a part, for one reader: of sets and labels that nobody asks for
// nothing is read. They are not safe for concurrent use.
type Labels interface {
	// Len is how many sets there are.
	Len() int
	// Size is about how many bytes of memory is held of them.
	Size() int64
	// Names gives the names of all labels, sorted.
	Names() ([]string, error)
	// Column gives what the sets have of one text label.
	Column(name string) (*LabelColumn, error)
	// Sets gives the sets by their numbers. Those of which selected says so have at least their labels of
	// these names; nil selects all, of either. Other sets and labels may be missing.
	Sets(selected []bool, names []string) (*dictionary.Dictionary, error)
}

// LabelColumn is what label sets have of one text label. Sets with the same text mostly lie
// together, and are a run. It does not change.
type LabelColumn struct {
	// Texts begins with the empty one, which stands for none. One may be there more than once.
	Texts []string
	ends  []uint32 // of each run, its end among the sets
	texts []uint32 // of each run
}

// Size is about how many bytes of memory c holds.
func (c *LabelColumn) Size() int64 {
	return 8*int64(len(c.ends)) + sizeOfTexts(c.Texts)
}

// sizeOfTexts is how many bytes of memory texts take.
func sizeOfTexts(texts []string) (size int64) {
	for _, s := range texts {
		size += int64(len(s)) + 16
	}
	return size
}

// add gives the next set a text, by its number.
func (c *LabelColumn) add(text uint32) {
	if n := len(c.ends); n > 0 && c.texts[n-1] == text {
		c.ends[n-1]++
		return
	}
	end := uint32(0)
	if n := len(c.ends); n > 0 {
		end = c.ends[n-1]
	}
	c.ends, c.texts = append(c.ends, end+1), append(c.texts, text)
}

// Text gives the text of a set, or the empty string.
func (c *LabelColumn) Text(set uint32) string {
	run := sort.Search(len(c.ends), func(i int) bool { return c.ends[i] > set })
	if run == len(c.ends) {
		return ""
	}
	return c.Texts[c.texts[run]]
}

// Run is sets in a row, from First up to End, with a text of the column by its number.
type Run struct{ First, End, Text uint32 }

// Runs are all sets, in their order.
func (c *LabelColumn) Runs() iter.Seq[Run] {
	return func(yield func(Run) bool) {
		first := uint32(0)
		for i, end := range c.ends {
			if !yield(Run{first, end, c.texts[i]}) {
				return
			}
			first = end
		}
	}
}

// LabelsOf are those of a dictionary.
func LabelsOf(d *dictionary.Dictionary) Labels { return dictionaryLabels{d} }

type dictionaryLabels struct{ *dictionary.Dictionary }

func (d dictionaryLabels) Len() int    { return d.LabelSets.Len() }
func (d dictionaryLabels) Size() int64 { return 0 } // the dictionary is somebody's

func (d dictionaryLabels) Sets([]bool, []string) (*dictionary.Dictionary, error) {
	return d.Dictionary, nil
}

func (d dictionaryLabels) Names() ([]string, error) {
	names := map[string]struct{}{}
	for _, l := range d.LabelSets.Labels() {
		names[d.Strings[l.Key]] = struct{}{}
	}
	return slices.Sorted(maps.Keys(names)), nil
}

func (d dictionaryLabels) Column(name string) (*LabelColumn, error) {
	c := &LabelColumn{Texts: []string{""}}
	labels := d.LabelSets.Labels()
	texts := make([]uint32, len(labels)) // by label, its number among those of c
	for i, l := range labels {
		if l.Text != 0 && d.Strings[l.Key] == name {
			texts[i] = uint32(len(c.Texts))
			c.Texts = append(c.Texts, d.Strings[l.Text])
		}
	}
	for set := range d.LabelSets.Len() {
		text := uint32(0)
		for _, n := range d.LabelSets.Numbers(uint32(set)) {
			if text = texts[n]; text != 0 {
				break
			}
		}
		c.add(text)
	}
	return c, nil
}
