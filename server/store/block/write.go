// SPDX-License-Identifier: Apache-2.0

package block

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/fleetprof/fleetprof/server/dictionary"
)

// maxComments bounds the comments of a window.
const maxComments = 64

// Plan says what becomes of parts that are written as one block.
type Plan struct {
	Parts []Part
	// Resolution is what windows are folded to: those of one source and type whose
	// starts lie in the same interval become one. 0 leaves them as they are.
	Resolution time.Duration
	IDs        []ID
	// Profiles, Log and Replaces are those of Meta.
	Profiles int64
	Log      uint64
	Replaces []string
}

// Write writes a block into dir, which must not be there yet, down to the disk. What
// no row refers to is left out; sums per type, labels, process and stack stay what they are.
// After an error dir may be there, and is no block.
func Write(ctx context.Context, dir string, p Plan) (err error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	m := &merger{ctx: ctx, several: len(p.Parts) > 1, dict: dictionary.New(), resolution: p.Resolution}
	defer func() { err = errors.Join(err, m.close()) }()
	for _, part := range p.Parts {
		if err := m.add(part); err != nil {
			return err
		}
	}
	m.reserve()
	m.arrange()
	w := &writer{dir: dir, files: map[string]File{}}
	if err := m.writeRows(w); err != nil {
		return err
	}
	m.writeTables(w, p.IDs)
	others := m.writeLabels(w)
	meta := Meta{
		Version: formatVersion, Resolution: p.Resolution, Profiles: p.Profiles, Log: p.Log, Replaces: p.Replaces,
		Rows: m.rows, Sums: m.sums, Stacks: len(m.dict.Stacks), Windows: len(m.windows), Series: len(m.series),
		Locations: m.locations, Functions: m.functions, Fingerprints: m.prints, Processes: m.processes, LabelSets: len(m.order), OtherLabels: others,
		Types: m.types, Files: w.files,
	}
	meta.Start, meta.End = m.bounds()
	w.finish(meta)
	if w.err != nil {
		return fmt.Errorf("write block: %w", w.err)
	}
	return nil
}

// merger makes one part of several.
type merger struct {
	ctx        context.Context
	several    bool // parts
	resolution time.Duration
	inputs     []*input
	dict       *dictionary.Interner
	types      []Type
	windows    []Window
	series     []*mergedSeries
	rows, sums int64
	order      []uint32 // for each label set its number in the block
	locations  int      // that are written
	functions  int
	prints     bool // locations have fingerprints
	processes  bool // rows have processes
	scratch    []sum
}

// input is one part, and how its numbers translate.
type input struct {
	index   *Index
	rows    RowReader
	stacks  StackReader
	symbols *dictionary.StackTranslation
	labels  *dictionary.Translation
	// processes are those of label sets, which are translated without. Rows may have others.
	processes []uint32
	types     []uint32
	windows   []uint32
}

// mergedSeries is a series and what it is made of.
type mergedSeries struct {
	Series
	from []source
}

type source struct {
	in     *input
	series Series
}

// process is that of all rows, or 0 if it is none or they have their own.
func (s *source) process() uint32 { return s.in.processes[s.series.LabelSet] }

func (m *merger) add(p Part) error {
	index, err := p.Index()
	if err != nil {
		return err
	}
	labels, err := p.Labels(index.LabelSets)
	if err != nil {
		return err
	}
	sets, err := labels.Sets(nil, nil)
	if err != nil {
		return err
	}
	symbols, err := p.Symbols()
	if err != nil {
		return err
	}
	stacks, err := p.Stacks(symbols.Len())
	if err != nil {
		return err
	}
	rows, err := p.Rows()
	if err != nil {
		return errors.Join(err, stacks.Close())
	}
	without, processes := withoutProcesses(sets)
	in := &input{
		index: index, rows: rows, stacks: stacks, symbols: m.dict.TranslateStacks(symbols, stacks),
		labels: m.dict.Translate(without), processes: processes,
	}
	for _, t := range index.Types {
		id := slices.Index(m.types, t)
		if id < 0 {
			id = len(m.types)
			m.types = append(m.types, t)
		}
		in.types = append(in.types, uint32(id))
	}
	m.inputs = append(m.inputs, in)
	if m.several || symbols.Len() > symbols.PageLen() { // and so a block, in which nothing is that no row refers to
		return in.symbols.Locations()
	}
	return nil
}

func (m *merger) close() error {
	var errs []error
	for _, in := range m.inputs {
		errs = append(errs, in.rows.Close(), in.stacks.Close())
	}
	return errors.Join(errs...)
}

// reserve makes room for all stacks, since moving so many takes them twice for a while.
func (m *merger) reserve() {
	most := 0
	for _, in := range m.inputs {
		most += in.stacks.Len()
	}
	m.dict.Reserve(most)
}

// arrange numbers windows and label sets, so that rows of one series that follow each
// other have numbers that do, and puts the series in order.
func (m *merger) arrange() {
	m.foldWindows()
	byKey := map[[2]uint32]*mergedSeries{}
	for _, in := range m.inputs {
		for s := range in.index.Series.All() {
			key := [2]uint32{in.types[s.Type], in.labels.LabelSet(s.LabelSet)}
			merged, ok := byKey[key]
			if !ok {
				merged = &mergedSeries{Series: Series{Type: key[0], LabelSet: key[1]}}
				byKey[key] = merged
				m.series = append(m.series, merged)
			}
			merged.from = append(merged.from, source{in, s})
		}
	}
	m.order = orderSets(&m.dict.Dictionary)
	slices.SortFunc(m.series, func(a, b *mergedSeries) int {
		return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(m.order[a.LabelSet], m.order[b.LabelSet]))
	})
}

// foldWindows makes the windows of the block out of those of all inputs.
func (m *merger) foldWindows() {
	type place struct{ in, window int }
	var all []place
	for i, in := range m.inputs {
		in.windows = make([]uint32, len(in.index.Windows))
		for w := range in.index.Windows {
			all = append(all, place{i, w})
		}
	}
	window := func(p place) (w Window) {
		w = m.inputs[p.in].index.Windows[p.window]
		w.Type = m.inputs[p.in].types[w.Type]
		return w
	}
	slices.SortStableFunc(all, func(a, b place) int {
		x, y := window(a), window(b)
		return cmp.Or(cmp.Compare(x.Type, y.Type), strings.Compare(x.Source, y.Source), cmp.Compare(x.Start, y.Start))
	})
	for _, p := range all {
		w := window(p)
		if n := len(m.windows); n == 0 || !m.fold(&m.windows[n-1], w) {
			m.windows = append(m.windows, w)
		}
		m.inputs[p.in].windows[p.window] = uint32(len(m.windows) - 1)
	}
}

// fold adds w to a window, if the two belong together.
func (m *merger) fold(to *Window, w Window) bool {
	d := int64(m.resolution)
	if d == 0 || to.Type != w.Type || to.Source != w.Source || to.Start/d != w.Start/d {
		return false
	}
	to.End = max(to.End, w.End)
	to.Period = max(to.Period, w.Period)
	to.Profiles += w.Profiles
	for _, c := range w.Comments {
		if len(to.Comments) < maxComments && !slices.Contains(to.Comments, c) {
			to.Comments = append(slices.Clip(to.Comments), c)
		}
	}
	return true
}

func (m *merger) bounds() (start, end int64) {
	for i, w := range m.windows {
		if i == 0 || w.Start < start {
			start = w.Start
		}
		end = max(end, w.End)
	}
	return start, end
}

// writeRows writes the rows and their sums, one series after the other.
func (m *merger) writeRows(w *writer) error {
	rows, err := newRowWriter[rowRecord](w, rowsFile)
	if err != nil {
		return err
	}
	sums, err := newRowWriter[sumRecord](w, sumsFile)
	if err != nil {
		return errors.Join(err, rows.file.Close())
	}
	out := seriesWriter{rows, sums}
	for _, s := range m.series {
		if err = cmp.Or(m.ctx.Err(), m.writeSeries(out, s)); err != nil {
			break
		}
	}
	m.rows, m.sums = rows.rows, sums.rows
	return errors.Join(err, rows.close(), sums.close())
}

const (
	// maxSums bounds the rows of one series in memory, 32 bytes each. Beyond it they are
	// written in several runs, each of which is sorted.
	maxSums = 3 << 20
	// sumShare is what part of the rows of a series its sums may be at most to be worth their room.
	sumShare = 2
)

func (m *merger) writeSeries(out seriesWriter, s *mergedSeries) error {
	s.First, s.FirstSum = out.rows.rows, out.sums.rows
	sums, summed := m.scratch[:0], false
	flush := func() error {
		if out.rows.rows == s.First { // all runs have sums, or none: a question reads only those where there are some
			summed = countSums(sums) <= len(sums)/sumShare
		}
		err := out.write(m.order[s.LabelSet], sums, summed)
		sums = sums[:0]
		return err
	}
	slices.SortStableFunc(s.from, func(a, b source) int { return cmp.Compare(a.process(), b.process()) })
	for _, from := range s.from {
		process := from.process()
		err := from.in.rows.Read(from.series, func(r Rows) error {
			for i, stack := range r.Stack {
				key := uint64(from.in.symbols.Stack(stack))<<32 | uint64(from.in.windows[r.Window[i]])
				s := sum{key, r.Value[i], r.Count[i], process}
				if process == 0 && r.Process != nil {
					s.process = r.Process[i]
				}
				m.processes = m.processes || s.process != 0
				sums = append(sums, s)
			}
			if len(sums) < maxSums {
				return nil
			}
			if sums = addUp(sums); len(sums) < maxSums/2 {
				return nil
			}
			return flush()
		})
		if err = cmp.Or(err, from.in.symbols.Err()); err != nil {
			return err
		}
	}
	sums = addUp(sums)
	err := flush()
	m.scratch = sums
	s.Rows, s.Sums = out.rows.rows-s.First, out.sums.rows-s.FirstSum
	return err
}

// addUp sorts rows, and makes one of those with equal keys.
func addUp(sums []sum) []sum {
	slices.SortFunc(sums, func(a, b sum) int {
		if a.process != b.process {
			return cmp.Compare(a.process, b.process)
		}
		return cmp.Compare(a.key, b.key)
	})
	n := 0
	for i, s := range sums {
		if i > 0 && s.key == sums[n-1].key && s.process == sums[n-1].process {
			sums[n-1].add(s)
			continue
		}
		sums[n] = s
		n++
	}
	return sums[:n]
}

// addSaturated adds two numbers that are not negative.
func addSaturated(a, b int64) int64 {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}
