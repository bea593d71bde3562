// SPDX-License-Identifier: Apache-2.0

package query

import (
	"fmt"
	"math"
	"slices"

	"github.com/fleetprof/fleetprof/server/columns"
)

// merged is the sum of the selected samples of many profiles. Strings,
// mappings, functions, locations, stacks and label sets are held once, however
// many profiles have them; samples with the same stack and labels are one row.
type merged struct {
	selector Selector
	noStacks bool  // all stacks are empty: rows have labels only
	limit    int64 // bytes of memory it may take
	held     int64 // bytes of memory it takes, about

	strings   table[string, string]
	mappings  table[columns.Mapping, columns.Mapping]
	functions table[columns.Function, columns.Function]
	locations table[uint64, location] // by hash; equal hashes are chained
	stacks    table[string, string]   // 4 bytes for each location, innermost first
	labelSets table[string, []columns.Label]
	rows      table[uint64, row]
	comments  map[string]struct{}

	covered  coverage
	period   int64 // the longest, in nanoseconds
	profiles int   // that had a selected sample
	skipped  int   // that could not be read
	samples  int64 // sum of the counts
	total    int64 // sum of the CPU time, in nanoseconds

	scratch []byte
}

// location is a columns.Location with its lines. Mapping is an index plus 1,
// and so is previous, another location with the same hash.
type location struct {
	columns.Location
	lines    []columns.Line
	previous uint32
}

// row is one sample of the result.
type row struct {
	stack, labelSet uint32
	count, cpu      int64 // cpu in nanoseconds
}

// maxComments bounds the comments kept.
const maxComments = 64

func newMerged(s Selector, limit int64) *merged {
	m := &merged{selector: s, limit: limit, comments: map[string]struct{}{}}
	m.str("") // index 0, as profile.proto wants it
	return m
}

// table numbers values by their keys, in the order of first sight.
type table[K comparable, V any] struct {
	index  map[K]uint32
	values []V
}

func (t *table[K, V]) add(key K, value V) uint32 {
	if t.index == nil {
		t.index = map[K]uint32{}
	}
	id := uint32(len(t.values))
	t.index[key] = id
	t.values = append(t.values, value)
	return id
}

// mapOverhead is about what one entry of a table takes besides its value.
const mapOverhead = 32

func (m *merged) str(s string) uint32 {
	if id, ok := m.strings.index[s]; ok {
		return id
	}
	m.held += int64(len(s)) + 2*16 + mapOverhead
	return m.strings.add(s, s)
}

// add sums up the selected samples of one profile.
func (m *merged) add(p *hashed) error {
	t := newTranslation(m, p)
	found := false
	for i := range p.Count {
		set, ok := t.labelSet(int(p.LabelSet[i]))
		if !ok {
			continue
		}
		found = true
		var stack []uint32
		if !m.noStacks {
			stack = p.Stack(i)
		}
		m.addRow(t.stack(stack), set, p.Count[i], p.CPU[i])
	}
	m.covered.add(p.Start, p.Start+p.Duration)
	m.period = max(m.period, p.Period)
	if found {
		m.profiles++
		for _, c := range p.Comments {
			if len(m.comments) < maxComments {
				m.comments[p.Strings[c]] = struct{}{}
			}
		}
	}
	if m.held > m.limit {
		return &limitError{fmt.Sprintf("the result takes more than %d MiB of memory", m.limit>>20)}
	}
	return nil
}

func (m *merged) addRow(stack, set uint32, count, cpu int64) {
	m.samples = addSaturated(m.samples, count)
	m.total = addSaturated(m.total, cpu)
	key := uint64(stack)<<32 | uint64(set)
	if id, ok := m.rows.index[key]; ok {
		r := &m.rows.values[id]
		r.count, r.cpu = addSaturated(r.count, count), addSaturated(r.cpu, cpu)
		return
	}
	m.held += 24 + mapOverhead
	m.rows.add(key, row{stack, set, count, cpu})
}

// addSaturated adds two numbers that are not negative.
func addSaturated(a, b int64) int64 {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}

// stackLocations gives the locations of a stack, innermost first.
func (m *merged) stackLocations(stack uint32) []uint32 {
	key := m.stacks.values[stack]
	ids := make([]uint32, len(key)/4)
	for i := range ids {
		ids[i] = uint32(key[4*i]) | uint32(key[4*i+1])<<8 | uint32(key[4*i+2])<<16 | uint32(key[4*i+3])<<24
	}
	return ids
}

// label gives the value of a text label of a set, or the empty string.
func (m *merged) label(set uint32, name uint32) string {
	for _, l := range m.labelSets.values[set] {
		if l.Key == name && l.Text != 0 {
			return m.strings.values[l.Text]
		}
	}
	return ""
}

// values counts the distinct values of a label over all label sets.
func (m *merged) values(name string) int {
	key, ok := m.strings.index[name]
	if !ok {
		return 0
	}
	distinct := map[string]struct{}{}
	for set := range m.labelSets.values {
		if v := m.label(uint32(set), key); v != "" {
			distinct[v] = struct{}{}
		}
	}
	return len(distinct)
}

// coverage is a set of intervals, in nanoseconds since the Unix epoch.
type coverage struct{ intervals [][2]int64 }

// add extends the last interval where it can: profiles come almost in order.
func (c *coverage) add(start, end int64) {
	if n := len(c.intervals); n > 0 {
		if last := &c.intervals[n-1]; last[0] <= start && start <= last[1] {
			last[1] = max(last[1], end)
			return
		}
	}
	c.intervals = append(c.intervals, [2]int64{start, end})
}

// union gives where the intervals begin and how long they are together, where
// what lies in several counts once.
func (c *coverage) union() (start, length int64) {
	if len(c.intervals) == 0 {
		return 0, 0
	}
	slices.SortFunc(c.intervals, func(a, b [2]int64) int { return slices.Compare(a[:], b[:]) })
	start = c.intervals[0][0]
	reached := start
	for _, i := range c.intervals {
		if i[1] > reached {
			length += i[1] - max(i[0], reached)
			reached = i[1]
		}
	}
	return start, length
}
