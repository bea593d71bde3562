// SPDX-License-Identifier: Apache-2.0

package query

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/fleetprof/fleetprof/internal/matching"
	"github.com/fleetprof/fleetprof/server/dictionary"
	"github.com/fleetprof/fleetprof/server/store"
	"github.com/fleetprof/fleetprof/server/store/block"
)

// part is what a query sees of a block, or of the head of the store.
type part struct {
	index *block.Index
	// in says of each window whether it is of the type asked for and overlaps the
	// range; whole, that all of that type do.
	in    []bool
	whole bool

	stored   store.ViewPart
	bytes    int64 // of memory, as long as it is looked at: what the cache does not keep
	api      *API
	selector Selector
	types    []bool
	stacks   *stacks // while they are open
	labels   block.Labels
	selected []bool // by label set
	// processes are matchers of the label of the process, which some rows have and some label sets.
	processes matching.Matchers
	processOf *block.LabelColumn // of label sets, if there are such matchers
}

// visit calls f for every part of the store that has windows of the type in the range,
// the oldest first. It gives the number of those that could not be read.
func (a *API) visit(ctx context.Context, q request, f func(p *part) error) (skipped int, err error) {
	view := a.store.View(q.span.From, q.span.To)
	defer view.Close()
	kinds := kinds{request: q}
	skipped = view.Damaged
	for _, stored := range view.Parts {
		if err := ctx.Err(); err != nil {
			return skipped, a.orTooLong(err)
		}
		p, err := a.load(stored, q, &kinds)
		if err == nil && p != nil {
			err = errors.Join(f(p), p.close())
		}
		var unreadable *unreadableError
		if errors.As(err, &unreadable) {
			view.Failed(stored, unreadable.err)
			a.metrics.readErrors.Inc()
			skipped++
			err = nil
		}
		if err != nil {
			return skipped, a.orTooLong(err)
		}
	}
	return skipped, nil
}

// unreadableError says that a part of the store could not be read.
type unreadableError struct{ err error }

func (e *unreadableError) Error() string { return "read stored profiles: " + e.err.Error() }
func (e *unreadableError) Unwrap() error { return e.err }

// load reads the index of a part. It gives nil if nothing in it is asked for.
func (a *API) load(stored store.ViewPart, q request, k *kinds) (*part, error) {
	index, err := cachedOr(a, a.cache.indexes, stored.Name, stored.Index)
	if err != nil {
		return nil, err
	}
	p := &part{index: index, stored: stored, api: a, selector: q.selector, whole: true}
	p.keep(index, a.cache.indexes)
	if p.types, err = k.match(index.Types); err != nil {
		return nil, err
	}
	p.in = make([]bool, len(index.Windows))
	from, to, any := q.span.From.UnixNano(), q.span.To.UnixNano(), false
	for i := range index.Windows {
		w := &index.Windows[i]
		if !p.types[w.Type] {
			continue
		}
		p.in[i] = w.Overlaps(from, to)
		any = any || p.in[i]
		p.whole = p.whole && p.in[i]
	}
	if !any {
		return nil, nil
	}
	if p.labels, err = stored.Labels(index.LabelSets); err != nil {
		return nil, asUnreadable(err)
	}
	return p, p.choose()
}

// choose finds the label sets that are selected.
func (p *part) choose() error {
	p.selected = slices.Repeat([]bool{true}, p.labels.Len())
	for _, m := range p.selector.matchers {
		column, err := p.column(m.Name)
		if err != nil {
			return err
		}
		if m.Name == block.ProcessLabel && p.index.Processes {
			p.processes, p.processOf = append(p.processes, m), column
			continue
		}
		matches := make([]bool, len(column.Texts))
		for i, text := range column.Texts {
			matches[i] = m.Matches(text)
		}
		for run := range column.Runs() {
			if !matches[run.Text] {
				clear(p.selected[run.First:run.End])
			}
		}
	}
	return nil
}

// column gives what label sets have of one label.
func (p *part) column(name string) (*block.LabelColumn, error) {
	c, err := cachedOr(p.api, p.api.cache.indexes, p.named("label", name), func() (*block.LabelColumn, error) { return p.labels.Column(name) })
	switch {
	case err != nil:
	case p.stored.Name == "": // it was made for this query
		p.bytes += c.Size()
	default:
		p.keep(c, p.api.cache.indexes)
	}
	return c, err
}

// sets gives label sets with their labels of these names, or all if it is nil. Others may be missing,
// and labels of other names there.
func (p *part) sets(selected []bool, names []string) (*dictionary.Dictionary, error) {
	d, err := p.labels.Sets(selected, names)
	if err == nil && p.stored.Name != "" { // those of the head are in memory anyway
		p.bytes += d.Size() + p.labels.Size()
	}
	return d, asUnreadable(err)
}

// sized is what the cache keeps.
type sized interface{ Size() int64 }

// cachedOr gives something of a block from the cache, or else reads it.
func cachedOr[T sized](a *API, c *cache, block string, read func() (T, error)) (T, error) {
	if block == "" { // the head is in memory, and changes
		v, err := read()
		return v, asUnreadable(err)
	}
	if v, ok := c.get(block).(T); ok {
		a.metrics.cacheHits.Inc()
		return v, nil
	}
	a.metrics.cacheMisses.Inc()
	// What several queries want at a time is read once.
	shared, err, _ := c.reads.Do(block, func() (any, error) {
		if v, ok := c.get(block).(T); ok { // since it was missed
			return v, nil
		}
		v, err := read()
		if err == nil {
			c.put(block, v, v.Size())
		}
		return v, err
	})
	if err != nil {
		var none T
		return none, asUnreadable(err)
	}
	return shared.(T), nil
}

func asUnreadable(err error) error {
	if err == nil {
		return nil
	}
	return &unreadableError{err}
}

// translate gives a translation of the stacks of the part.
func (p *part) translate(to *dictionary.Interner) (*dictionary.StackTranslation, error) {
	s, err := p.stored.Symbols()
	if err != nil {
		return nil, asUnreadable(err)
	}
	r, err := p.stored.Stacks(s.Len())
	if err != nil {
		return nil, asUnreadable(err)
	}
	p.stacks = &stacks{StackReader: r, part: p}
	return to.TranslateStacks(symbols{s, p}, p.stacks), nil
}

// close ends the reading of stacks.
func (p *part) close() error {
	if p.stacks == nil {
		return nil
	}
	return p.stacks.Close()
}

// stacks are those of a part, by pages that the cache keeps.
type stacks struct {
	block.StackReader
	part *part
}

// nodes is a page of stacks.
type nodes []dictionary.Node

// Size is how many bytes of memory n holds.
func (n nodes) Size() int64 { return 8 * int64(len(n)) }

func (s *stacks) Page(i int) ([]dictionary.Node, error) {
	return cachedOr(s.part.api, s.part.api.cache.symbols, s.part.named("stacks", i), func() (nodes, error) { return s.StackReader.Page(i) })
}

// symbols are those of a part, by pages that the cache keeps.
type symbols struct {
	dictionary.Symbols
	part *part
}

func (s symbols) Page(i int) (*dictionary.Dictionary, error) {
	d, err := cachedOr(s.part.api, s.part.api.cache.symbols, s.part.named("symbols", i), func() (*dictionary.Dictionary, error) { return s.Symbols.Page(i) })
	if err == nil {
		s.part.keep(d, s.part.api.cache.symbols)
	}
	return d, err
}

func (s symbols) Fingerprints() ([]dictionary.Fingerprint, error) {
	return cachedOr(s.part.api, s.part.api.cache.symbols, s.part.named("symbols", "fingerprints"), func() (fingerprints, error) { return s.Symbols.Fingerprints() })
}

// fingerprints are those of the locations of a part.
type fingerprints []dictionary.Fingerprint

// Size is how many bytes of memory f holds.
func (f fingerprints) Size() int64 { return int64(len(f)) * int64(len(dictionary.Fingerprint{})) }

// named is what the cache calls something of the part; the head has no name.
func (p *part) named(what string, which any) string {
	if p.stored.Name == "" {
		return ""
	}
	return fmt.Sprintf("%s/%s/%v", p.stored.Name, what, which)
}

// keep counts what is in memory for this query alone, as the cache has no room for it.
func (p *part) keep(v sized, c *cache) {
	if n := v.Size(); p.stored.Name != "" && n > c.max {
		p.bytes += n
	}
}

// selects reports whether a series is of the type and has the labels asked for.
func (p *part) selects(s block.Series) bool { return p.types[s.Type] && p.selected[s.LabelSet] }

// scan calls f with the rows of all selected series, one series after the other and
// some rows at a time, which are f's only until it returns. Rows of windows outside the
// range are among them: see part.in.
func (p *part) scan(ctx context.Context, f func(s block.Series, rows block.Rows) error) error {
	return p.read(ctx, false, f)
}

// sums is the same for whom it is all one which window of the range a row is of: where it can, it
// calls f with sums of rows instead, which are of no window, and are all in the range.
func (p *part) sums(ctx context.Context, f func(s block.Series, rows block.Rows) error) error {
	return p.read(ctx, p.whole, f)
}

func (p *part) read(ctx context.Context, sums bool, f func(s block.Series, rows block.Rows) error) (err error) {
	var rows block.RowReader
	defer func() {
		if rows != nil {
			err = errors.Join(err, rows.Close())
		}
	}()
	for s := range p.index.Series.All() {
		if err := ctx.Err(); err != nil {
			return err
		}
		if !p.selects(s) {
			continue
		}
		if rows == nil {
			if rows, err = p.stored.Rows(); err != nil {
				return asUnreadable(err)
			}
		}
		var own error // of f, not of the reading
		read := rows.Read
		if sums && s.Sums > 0 {
			read = rows.ReadSums
		}
		err := read(s, func(r block.Rows) error {
			if own = ctx.Err(); own == nil {
				own = p.ofProcesses(s, r, f)
			}
			return own
		})
		if own != nil {
			return own
		}
		if err != nil {
			return asUnreadable(err)
		}
	}
	return nil
}

// ofProcesses calls f with those of the rows that are of a selected process.
func (p *part) ofProcesses(s block.Series, rows block.Rows, f func(s block.Series, rows block.Rows) error) error {
	if p.processes == nil {
		return f(s, rows)
	}
	for process, rows := range rows.Processes() {
		text := block.ProcessText(process)
		if process == 0 {
			text = p.processOf.Text(s.LabelSet)
		}
		if !p.processes.Match(func(string) string { return text }) {
			continue
		}
		if err := f(s, rows); err != nil {
			return err
		}
	}
	return nil
}

// all reports whether every label set of the part has a series that is selected and a window of it in the range.
func (p *part) all() bool {
	return p.whole && len(p.selector.matchers) == 0 && !slices.Contains(p.types, false)
}

// setsInRange says of each label set whether it has such a series.
func (p *part) setsInRange(ctx context.Context) ([]bool, error) {
	has := make([]bool, len(p.selected))
	return has, p.series(ctx, func(s block.Series) error {
		has[s.LabelSet] = true
		return nil
	})
}

// errEnough ends what needs to look no further.
var errEnough = errors.New("enough is known")

// eachProcess calls f for processes that rows in the range have, for some of them more than once.
func (p *part) eachProcess(ctx context.Context, f func(process uint32) error) error {
	if !p.index.Processes {
		return nil
	}
	return p.sums(ctx, func(_ block.Series, rows block.Rows) error {
		for process, rows := range rows.Processes() {
			if process == 0 || !p.inRange(rows) {
				continue
			}
			if err := f(process); err != nil {
				return err
			}
		}
		return nil
	})
}

// series calls f for every selected series that a window in the range has.
func (p *part) series(ctx context.Context, f func(s block.Series) error) error {
	if p.whole && p.processes == nil { // no row needs to be looked at
		for s := range p.index.Series.All() {
			if err := ctx.Err(); err != nil {
				return err
			}
			if !p.selects(s) {
				continue
			}
			if err := f(s); err != nil {
				return err
			}
		}
		return nil
	}
	last := -1 // that f was called for
	return p.sums(ctx, func(s block.Series, rows block.Rows) error {
		if s.Number == last || !p.inRange(rows) {
			return nil
		}
		last = s.Number
		return f(s)
	})
}

// inRange reports whether any of the rows is of a window in the range.
func (p *part) inRange(rows block.Rows) bool {
	return rows.Window == nil || slices.ContainsFunc(rows.Window, func(w uint32) bool { return p.in[w] })
}
