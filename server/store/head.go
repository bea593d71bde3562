// SPDX-License-Identifier: Apache-2.0

package store

import (
	"cmp"
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"github.com/fleetprof/fleetprof/sample"
	"github.com/fleetprof/fleetprof/server/columns"
	"github.com/fleetprof/fleetprof/server/dictionary"
	"github.com/fleetprof/fleetprof/server/store/block"
)

// head is what has been appended since the last block was made: the same as in a
// block, in memory. All of it is also in logs. It has no lock of its own; snapshots
// of it need none, since what is there never changes.
type head struct {
	begun    time.Time
	dict     *dictionary.Interner
	types    []block.Type
	typeIDs  map[block.Type]uint32
	windows  []block.Window
	series   []headSeries
	seriesOf map[uint64]uint32 // by type<<32 | label set
	ids      []block.ID
	memories map[*columns.Sender]*dictionary.Memory
	memory   int64 // bytes of these
	profiles int64
	rows     int64
	bytes    int64 // of the rows
	start    int64 // of all windows, in nanoseconds
	end      int64
	log      uint64 // the last log with records of it
	logBytes int64  // of all of them
}

// headSeries is a series; its rows are four varints each: how far the window is from
// that of the row before, the stack, the value and the count.
type headSeries struct {
	typ, labelSet uint32
	rows          int64
	last          uint32 // window
	buf           []byte
}

func newHead(now time.Time) *head {
	return &head{begun: now, dict: dictionary.New(), typeIDs: map[block.Type]uint32{}, seriesOf: map[uint64]uint32{}, memories: map[*columns.Sender]*dictionary.Memory{}}
}

// size is about how many bytes of memory the head takes.
func (h *head) size() int64 {
	return h.dict.Bytes + h.memory + 2*h.bytes + 100*int64(len(h.windows)) + 100*int64(len(h.series)) + 24*int64(len(h.ids))
}

// column is a sample type that becomes rows.
type column struct {
	typ    uint32
	window uint32
	values []int64
	counts []int64 // nil if there are none
	series []uint32
}

// add takes in a profile. stored is in milliseconds since the epoch.
func (h *head) add(p *columns.Profile, id [16]byte, stored int64) {
	from := dictionary.Of(p)
	t := h.dict.Translate(from)
	comments := make([]string, 0, len(p.Comments))
	for _, c := range p.Comments[:min(len(p.Comments), maxComments)] {
		comments = append(comments, p.Strings[c])
	}
	source := ""
	for set := 0; set < from.LabelSets.Len() && source == ""; set++ {
		source = from.Label(uint32(set), sample.LabelHost)
	}
	all := h.columns(p)
	for i := range all {
		all[i].window = uint32(len(h.windows))
		all[i].series = make([]uint32, from.LabelSets.Len())
		h.windows = append(h.windows, block.Window{
			Start: p.Start, End: p.Start + p.Duration, Type: all[i].typ, Period: p.Period, Profiles: 1, Source: source, Comments: comments,
		})
	}
	m := h.memoryOf(p)
	before := m.Size()
	if p.Origin != nil {
		m.Recall(t, p.Origin)
	}
	for _, i := range byStack(p) {
		h.addSample(all, i, t, m, p)
	}
	if p.Origin != nil {
		m.Keep(t, p.Origin)
	}
	h.memory += m.Size() - before
	if h.profiles == 0 || p.Start < h.start {
		h.start = p.Start
	}
	h.end = max(h.end, p.Start+p.Duration)
	h.profiles++
	h.ids = append(h.ids, block.ID{ID: id, Stored: stored})
}

// byStack gives the samples so that stacks that share their outer frames follow each
// other.
func byStack(p *columns.Profile) []int {
	order := make([]int, p.Len())
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(i, j int) int {
		a, b := p.Stack(i), p.Stack(j)
		for n := 1; n <= len(a) && n <= len(b); n++ {
			if x, y := a[len(a)-n], b[len(b)-n]; x != y {
				return cmp.Compare(x, y)
			}
		}
		return cmp.Compare(len(a), len(b))
	})
	return order
}

// maxComments bounds the comments kept of a profile.
const maxComments = 64

// columns gives what becomes rows. samples/count beside other types is none of them,
// but the count of the rows of the first.
func (h *head) columns(p *columns.Profile) (all []column) {
	samples := p.Type("samples", "count")
	for i, t := range p.Types {
		if i == samples && len(p.Types) > 1 {
			continue
		}
		c := column{typ: h.typeOf(p, t), values: p.Values[i]}
		if samples >= 0 && len(all) == 0 {
			c.counts = p.Values[samples]
		}
		all = append(all, c)
	}
	return all
}

func (h *head) typeOf(p *columns.Profile, t columns.ValueType) uint32 {
	typ := block.Type{
		Name: p.Name, Sample: p.Strings[t.Type], Unit: p.Strings[t.Unit],
		Period: p.Strings[p.PeriodType.Type], PeriodUnit: p.Strings[p.PeriodType.Unit],
	}
	id, ok := h.typeIDs[typ]
	if !ok {
		id = uint32(len(h.types))
		h.typeIDs[typ] = id
		h.types = append(h.types, typ)
	}
	return id
}

// memoryOf gives what is remembered of the sender of a profile.
func (h *head) memoryOf(p *columns.Profile) *dictionary.Memory {
	if p.Origin == nil {
		return new(dictionary.Memory)
	}
	m := h.memories[p.Origin.Sender]
	if m == nil {
		m = new(dictionary.Memory)
		h.memories[p.Origin.Sender] = m
	}
	return m
}

// stackOf gives the stack of sample i.
func stackOf(p *columns.Profile, i int, t *dictionary.Translation, m *dictionary.Memory) uint32 {
	if p.Origin == nil {
		return t.Frames(p.Stack(i))
	}
	stack, ok := m.Stack(p.Origin.Stacks[i])
	if !ok {
		stack = t.Frames(p.Stack(i))
		m.KeepStack(p.Origin.Stacks[i], stack)
	}
	return stack
}

// addSample adds the rows of sample i. A row that says nothing is left out.
func (h *head) addSample(all []column, i int, t *dictionary.Translation, m *dictionary.Memory, p *columns.Profile) {
	set, stack, known := p.LabelSet[i], uint32(0), false
	for j := range all {
		c := &all[j]
		value, count := c.values[i], int64(0)
		if c.counts != nil {
			count = c.counts[i]
		}
		if value == 0 && count == 0 {
			continue
		}
		if !known {
			stack, known = stackOf(p, i, t, m), true
		}
		if c.series[set] == 0 {
			c.series[set] = h.seriesNumber(c.typ, t.LabelSet(set)) + 1
		}
		s := &h.series[c.series[set]-1]
		before := len(s.buf)
		s.buf = binary.AppendUvarint(s.buf, uint64(c.window-s.last))
		s.buf = binary.AppendUvarint(s.buf, uint64(stack))
		s.buf = binary.AppendUvarint(s.buf, uint64(value))
		s.buf = binary.AppendUvarint(s.buf, uint64(count))
		s.last = c.window
		s.rows++
		h.rows++
		h.bytes += int64(len(s.buf) - before)
	}
}

func (h *head) seriesNumber(typ, labelSet uint32) uint32 {
	key := uint64(typ)<<32 | uint64(labelSet)
	id, ok := h.seriesOf[key]
	if !ok {
		id = uint32(len(h.series))
		h.seriesOf[key] = id
		h.series = append(h.series, headSeries{typ: typ, labelSet: labelSet})
	}
	return id
}

// headPart is the head at one moment.
type headPart struct {
	dict   dictionary.Dictionary
	index  block.Index
	series []headSeries
}

// snapshot copies what the head refers to, not what it refers to it with: a few bytes
// for each series.
func (h *head) snapshot() *headPart {
	p := &headPart{dict: h.dict.Dictionary, series: make([]headSeries, len(h.series))}
	copy(p.series, h.series)
	p.index = block.Index{Types: h.types, Windows: h.windows, LabelSets: p.dict.LabelSets.Len()}
	p.index.Series.Grow(len(h.series))
	for _, s := range p.series {
		p.index.Series.Add(s.typ, s.labelSet, s.rows, 0)
	}
	return p
}

func (p *headPart) Index() (*block.Index, error)     { return &p.index, nil }
func (p *headPart) Labels(int) (block.Labels, error) { return block.LabelsOf(&p.dict), nil }
func (p *headPart) Symbols() (dictionary.Symbols, error) {
	return dictionary.AllSymbols{Dictionary: &p.dict}, nil
}
func (p *headPart) Rows() (block.RowReader, error) { return &headRows{part: p}, nil }
func (p *headPart) Stacks(int) (block.StackReader, error) {
	return headStacks{dictionary.AllNodes(p.dict.Stacks)}, nil
}

type headStacks struct{ dictionary.AllNodes }

func (headStacks) Close() error { return nil }

// headRows reads the rows of the head.
type headRows struct {
	part *headPart
	run  block.Rows
}

// runRows bounds the rows given at a time.
const runRows = 8192

func (r *headRows) Read(series block.Series, f func(block.Rows) error) error {
	s := r.part.series[series.Number]
	number := func() uint64 {
		v, n := binary.Uvarint(s.buf)
		s.buf = s.buf[n:]
		return v
	}
	window := uint32(0)
	for left := s.rows; left > 0; {
		run := &r.run
		run.Stack, run.Window, run.Value, run.Count = run.Stack[:0], run.Window[:0], run.Value[:0], run.Count[:0]
		for ; left > 0 && len(run.Stack) < runRows; left-- {
			window += uint32(number())
			run.Window = append(run.Window, window)
			run.Stack = append(run.Stack, uint32(number()))
			run.Value = append(run.Value, int64(number()))
			run.Count = append(run.Count, int64(number()))
		}
		if err := f(*run); err != nil {
			return err
		}
	}
	return nil
}

// ReadSums has nothing to read.
func (r *headRows) ReadSums(block.Series, func(block.Rows) error) error {
	return errors.New("the head has no sums")
}

func (r *headRows) Close() error { return nil }
