// SPDX-License-Identifier: Apache-2.0

package query

import (
	"context"
	"maps"
	"math"
	"slices"

	"github.com/fleetprof/fleetprof/sample"
	"github.com/fleetprof/fleetprof/server/dictionary"
	"github.com/fleetprof/fleetprof/server/store/block"
)

// merged is the sum of the selected rows of all parts of the store. What they have in
// common is held once; rows with the same stack and labels are one.
type merged struct {
	kind     block.Type
	noStacks bool     // all stacks are empty: rows have labels only
	drawn    bool     // rows have no labels but by, and named code nothing but its names
	by       []string // names of labels
	claim    *claim
	before   int64 // bytes that the claim has for what else there is
	limit    int64 // bytes that it may be written as
	only     which

	dict     *dictionary.Interner
	rows     rows
	comments map[string]struct{}
	hosts    map[string]struct{} // of which something is selected
	sources  map[string]*source  // by host

	covered  coverage
	period   int64 // the longest, in units of the period type
	profiles int   // of hosts of which something is selected
	skipped  int   // parts of the store that could not be read
	samples  int64 // sum of the counts
	total    int64 // sum of the values
}

// row is one sample of the result.
type row struct {
	stack, labelSet uint32
	count, value    int64 // value in units of the type
}

// rows are those of the result, in the order of first sight. Those of one label set, which mostly
// come one after the other, are found by a table of their own: it is small enough to be near.
type rows struct {
	values []row
	stacks []stackKey // of the values
	sets   []dictionary.Numbers[stackKey]
}

// stackKey is a stack by which a row is found.
type stackKey uint32

// Bits are the number.
func (k stackKey) Bits() uint64 { return uint64(k) }

// of gives the row of a stack and a label set, which is made if it is not there.
func (r *rows) of(stack, labelSet uint32) *row {
	for int(labelSet) >= len(r.sets) {
		r.sets = append(r.sets, dictionary.Numbers[stackKey]{})
	}
	set := &r.sets[labelSet]
	id, slot, ok := set.Find(r.stacks, stackKey(stack))
	if !ok {
		id = uint32(len(r.values))
		r.values = append(r.values, row{stack: stack, labelSet: labelSet})
		r.stacks = append(r.stacks, stackKey(stack))
		set.Put(r.stacks, slot)
	}
	return &r.values[id]
}

// bySet gives the numbers of the rows of each label set.
func (r *rows) bySet() [][]uint32 {
	counts := make([]int, len(r.sets))
	for _, v := range r.values {
		counts[v.labelSet]++
	}
	all, of := make([][]uint32, len(r.sets)), make([]uint32, len(r.values))
	for set, n := range counts {
		all[set], of = of[:0:n], of[n:]
	}
	for i, v := range r.values {
		all[v.labelSet] = append(all[v.labelSet], uint32(i))
	}
	return all
}

// bySetBytes is what bySet takes.
func (r *rows) bySetBytes() int64 { return 32*int64(len(r.sets)) + 4*int64(len(r.values)) }

// held is about how many bytes of memory r takes.
func (r *rows) held() int64 { return rowBytes*int64(len(r.values)) + setBytes*int64(len(r.sets)) }

// maxComments bounds the comments kept.
const maxComments = 64

func newMerged(c *claim) *merged {
	return &merged{claim: c, before: c.held(), dict: dictionary.New(), comments: map[string]struct{}{}, hosts: map[string]struct{}{}, sources: map[string]*source{}}
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

const (
	// mapOverhead is about what one entry of a table takes besides its value.
	mapOverhead = 32
	// rowBytes is about what one row takes, with its number and what append takes in advance.
	rowBytes = 24 + 4 + 8 + 8
	// setBytes is about what the table of one label set takes besides.
	setBytes = 56
)

// held is about how many bytes of memory m takes.
func (m *merged) held() int64 { return m.dict.Bytes + m.rows.held() }

// hold counts m, and so many bytes besides.
func (m *merged) hold(besides int64) error { return m.claim.hold(m.before + m.held() + besides) }

// add sums up the selected rows of one part.
func (m *merged) add(ctx context.Context, p *part) error {
	hosts, err := p.column(sample.LabelHost)
	if err != nil {
		return err
	}
	labels, err := m.labels(p)
	if err != nil {
		return err
	}
	m.addWindows(p)
	translations := labels.Size()
	byProcess := !m.drawn || slices.Contains(m.by, block.ProcessLabel)
	var stacks *dictionary.StackTranslation
	found := map[string]struct{}{} // hosts
	err = p.sums(ctx, func(s block.Series, rows block.Rows) (err error) {
		besides := p.bytes + translations
		if stacks == nil && !m.noStacks {
			if stacks, err = p.translate(m.dict); err != nil {
				return err
			}
			if m.drawn {
				stacks.WithNames()
			}
		}
		if !p.inRange(rows) {
			return nil
		}
		found[hosts.Text(s.LabelSet)] = struct{}{}
		if byProcess {
			for process, rows := range rows.Processes() {
				if !p.inRange(rows) {
					continue
				}
				set := labels.LabelSet
				if process != 0 {
					set = func(i uint32) uint32 { return labels.LabelSetWith(i, block.ProcessLabel, block.ProcessText(process)) }
				}
				m.addRows(p, rows, set(s.LabelSet), stacks)
			}
		} else {
			m.addRows(p, rows, labels.LabelSet(s.LabelSet), stacks)
		}
		if stacks != nil {
			if err := stacks.Err(); err != nil {
				return err
			}
			besides += stacks.Size()
		}
		return m.hold(besides)
	})
	if err != nil {
		return err
	}
	maps.Copy(m.hosts, found)
	m.addSources(p)
	return nil
}

// source is what a host has sent in the range.
type source struct {
	profiles int
	comments []string
}

// addSources notes who has sent what is in the range.
func (m *merged) addSources(p *part) {
	for i := range p.index.Windows {
		w := &p.index.Windows[i]
		if !p.in[i] {
			continue
		}
		s := m.sources[w.Source]
		if s == nil {
			s = &source{}
			m.sources[w.Source] = s
		}
		s.profiles += int(w.Profiles)
		for _, c := range w.Comments {
			if len(s.comments) < maxComments && !slices.Contains(s.comments, c) {
				s.comments = append(s.comments, c)
			}
		}
	}
}

// sum counts what hosts have sent of which something is selected.
func (m *merged) sum() {
	for _, host := range slices.Sorted(maps.Keys(m.hosts)) {
		s := m.sources[host]
		if s == nil {
			continue
		}
		m.profiles += s.profiles
		for _, c := range s.comments {
			if len(m.comments) < maxComments {
				m.comments[c] = struct{}{}
			}
		}
	}
	delete(m.hosts, "") // samples that do not say it
}

// labels translates the label sets of a part.
func (m *merged) labels(p *part) (*dictionary.Translation, error) {
	if !m.drawn {
		sets, err := p.sets(p.selected, nil)
		if err != nil {
			return nil, err
		}
		return m.dict.Translate(sets), nil
	}
	sets, err := p.sets(p.selected, append([]string{}, m.by...)) // nil would be all
	if err != nil {
		return nil, err
	}
	return m.dict.Translate(sets).WithLabels(m.by), nil
}

// addWindows notes which time is covered, whether or not a row is selected.
func (m *merged) addWindows(p *part) {
	for i := range p.index.Windows {
		if w := &p.index.Windows[i]; p.in[i] {
			m.kind = p.index.Types[w.Type]
			m.covered.add(w.Start, w.End)
			m.period = max(m.period, w.Period)
		}
	}
}

// addRows sums up rows of one label set, which is one of m. Those with the same stack mostly follow each
// other, and are looked up once.
func (m *merged) addRows(p *part, rows block.Rows, set uint32, stacks *dictionary.StackTranslation) {
	var sum row
	pending := false
	at := uint32(0) // the stack of sum, in the numbers of the part
	flush := func() {
		if !pending {
			return
		}
		if stacks != nil {
			if sum.stack = stacks.Stack(at); stacks.Err() != nil {
				return
			}
		}
		sum.labelSet = set
		m.addRow(sum)
		sum, pending = row{}, false
	}
	for i, stack := range rows.Stack {
		if rows.Window != nil && !p.in[rows.Window[i]] {
			continue
		}
		if pending && stack != at && stacks != nil {
			flush()
		}
		pending, at = true, stack
		sum.count = addSaturated(sum.count, rows.Count[i])
		sum.value = addSaturated(sum.value, rows.Value[i])
	}
	flush()
}

func (m *merged) addRow(add row) {
	m.samples = addSaturated(m.samples, add.count)
	m.total = addSaturated(m.total, add.value)
	r := m.rows.of(add.stack, add.labelSet)
	r.count, r.value = addSaturated(r.count, add.count), addSaturated(r.value, add.value)
}

// addSaturated adds two numbers that are not negative.
func addSaturated(a, b int64) int64 {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}

// coverage is a set of intervals, in nanoseconds since the Unix epoch.
type coverage struct{ intervals [][2]int64 }

// add extends the last interval where it can: windows come almost in order.
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
