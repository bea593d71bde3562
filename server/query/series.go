// SPDX-License-Identifier: Apache-2.0

package query

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"math/bits"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/fleetprof/fleetprof/server/store/block"
)

// Bounds of series. Prometheus has the same number of steps.
const (
	defaultStep = time.Minute
	maxSteps    = 11_000
	maxStep     = 365 * 24 * time.Hour
	maxPoints   = 1 << 20
	// groupPoints is how many points take the memory of a group without any.
	groupPoints = 16
)

// Series is sums over time, by the values of labels.
type Series struct {
	From, To time.Time // the first step begins at From, the last may reach beyond To
	Step     time.Duration
	Unit     string
	Total    int64
	Skipped  int      // stored profiles that could not be read
	Groups   []*Group // the largest first
}

// Group is one combination of values of the labels asked for.
type Group struct {
	Values []string // empty where there is no such label
	Sums   []int64  // one for each step
	Total  int64
}

// series answers with sums over time as JSON; times and step are in milliseconds, times since
// the Unix epoch:
//
//	from, to  the range, widened to whole steps as counted from the Unix epoch
//	step      the parameter step, 1m if left out
//	unit, total  the unit of the type, "nanoseconds" of CPU time, and the sum of all groups
//	skipped   stored profiles that could not be read
//	by        the labels of the parameter by=LABEL,…; none is one group of all
//	groups    the largest first: values of these labels (empty where there is none), total,
//	          and points [time, value], those of 0 left out; time is when a step begins
//
// A stored profile counts in a step by as much of its window as lies in it, to the nanosecond.
// So where no window lies across the ends of the range, the totals are those of a merge, which
// counts windows whole.
func (a *API) series(r *http.Request, out *answer) error {
	q, err := parseRequest(r, time.Now())
	if err != nil {
		return err
	}
	by, err := parseBy(r.URL.Query().Get("by"))
	if err != nil {
		return err
	}
	step, err := parseStep(r.URL.Query())
	if err != nil {
		return err
	}
	q.span = q.span.widened(step)
	s, err := a.sumOverTime(r.Context(), q, by, step)
	if err != nil {
		return err
	}
	return s.write(out, by)
}

func parseStep(params url.Values) (time.Duration, error) {
	text := params.Get("step")
	if text == "" {
		return defaultStep, nil
	}
	step, ok := parseDuration(text)
	if !ok || step == 0 || step > maxStep {
		return 0, &paramError{"step", text, "want a duration such as 10s, 1m, 1h, from 1ms to 365d"}
	}
	return step, nil
}

// widened is the range with both ends at a multiple of step since the Unix epoch.
func (r Range) widened(step time.Duration) Range {
	floor := func(t time.Time) time.Time { return t.Add(-time.Duration(t.UnixNano() % int64(step))) }
	to := floor(r.To)
	if to.Before(r.To) {
		to = to.Add(step)
	}
	return Range{floor(r.From), to}
}

// write writes a Series in JSON.
func (s *Series) write(out *answer, by []string) error {
	o := out.object()
	o.field("from", s.From.UnixMilli())
	o.field("to", s.To.UnixMilli())
	o.field("step", s.Step.Milliseconds())
	o.field("unit", s.Unit)
	o.field("total", s.Total)
	o.field("skipped", s.Skipped)
	array(o, "by", by)
	o.name("groups")
	o.text("[")
	for i, g := range s.Groups {
		if i > 0 {
			o.text(",")
		}
		one := &object{to: out, err: o.err}
		array(one, "values", g.Values)
		one.field("total", g.Total)
		array(one, "points", s.points(g))
		o.err = one.close()
	}
	o.text("]")
	return o.end()
}

// points are those sums of a group that are not 0, each with the begin of its step.
func (s *Series) points(g *Group) (points [][2]int64) {
	for i, v := range g.Sums {
		if v != 0 {
			points = append(points, [2]int64{s.From.Add(time.Duration(i) * s.Step).UnixMilli(), v})
		}
	}
	return points
}

// sumOverTime sums up what a query selects, by labels and by steps from the begin of its range.
func (a *API) sumOverTime(ctx context.Context, q request, by []string, step time.Duration) (*Series, error) {
	span := q.span.To.Sub(q.span.From)
	steps := (span + step - 1) / step
	if steps > maxSteps {
		least := (span + maxSteps - 1) / maxSteps
		return nil, &paramError{"step", step.String(), fmt.Sprintf("want one of which the range has at most %d: at least %v", maxSteps, max(least.Truncate(time.Millisecond)+time.Millisecond, time.Millisecond))}
	}
	t := &timeline{
		by: by, index: map[string]*Group{}, steps: int(steps), claim: claimOf(ctx),
		Series: &Series{From: q.span.From, To: q.span.To, Step: step},
	}
	skipped, err := a.visit(ctx, q, func(p *part) error { return t.add(ctx, p, q) })
	if err != nil {
		return nil, err
	}
	t.Skipped, t.Unit = skipped, q.unit(t.Unit)
	slices.SortFunc(t.Groups, func(a, b *Group) int {
		return cmp.Or(cmp.Compare(b.Total, a.Total), slices.Compare(a.Values, b.Values))
	})
	return t.Series, nil
}

// timeline collects a Series.
type timeline struct {
	*Series
	by    []string
	steps int
	index map[string]*Group // by the values, each with its length before it
	key   []byte
	claim *claim
	bytes int64 // of memory
}

// add sums up the selected rows of one part.
func (t *timeline) add(ctx context.Context, p *part, q request) error {
	sums := map[uint32]int64{} // by window
	if i := slices.Index(p.types, true); i >= 0 {
		t.Unit = p.index.Types[i].Unit
	}
	columns := make([]*block.LabelColumn, len(t.by))
	for i, name := range t.by {
		var err error
		if columns[i], err = p.column(name); err != nil {
			return err
		}
	}
	sum := func(s block.Series, process uint32, rows block.Rows) error {
		clear(sums)
		values := rows.Value
		if q.samples {
			values = rows.Count
		}
		for i, w := range rows.Window {
			if p.in[w] && values[i] != 0 {
				sums[w] = addSaturated(sums[w], values[i])
			}
		}
		if len(sums) == 0 {
			return nil
		}
		g, err := t.group(func(i int) string {
			if t.by[i] == block.ProcessLabel && process != 0 {
				return block.ProcessText(process)
			}
			return columns[i].Text(s.LabelSet)
		})
		if err != nil {
			return err
		}
		if err := t.claim.hold(t.bytes + p.bytes); err != nil {
			return err
		}
		for w, v := range sums {
			window := &p.index.Windows[w]
			spread := t.spread(g, window.Start, window.End-window.Start, v)
			g.Total, t.Total = addSaturated(g.Total, spread), addSaturated(t.Total, spread)
		}
		return nil
	}
	byProcess := slices.Contains(t.by, block.ProcessLabel)
	return p.scan(ctx, func(s block.Series, rows block.Rows) error {
		if !byProcess {
			return sum(s, 0, rows)
		}
		for process, rows := range rows.Processes() {
			if err := sum(s, process, rows); err != nil {
				return err
			}
		}
		return nil
	})
}

// group gives that of some values of the labels asked for.
func (t *timeline) group(value func(i int) string) (*Group, error) {
	values := make([]string, len(t.by))
	t.key = t.key[:0]
	for i := range values {
		values[i] = value(i)
		t.key = append(binary.AppendUvarint(t.key, uint64(len(values[i]))), values[i]...)
	}
	if g := t.index[string(t.key)]; g != nil {
		return g, nil
	}
	if (len(t.Groups)+1)*(t.steps+groupPoints) > maxPoints {
		return nil, &limitError{fmt.Sprintf("there are more than %d groups of %d steps, which an answer does not hold", len(t.Groups), t.steps), ""}
	}
	t.bytes += 2*int64(len(t.key)) + 16*int64(len(t.by)) + 8*int64(t.steps) + 200
	g := &Group{Values: values, Sums: make([]int64, t.steps)}
	t.index[string(t.key)], t.Groups = g, append(t.Groups, g)
	return g, nil
}

// spread adds a value that a window has evenly to the steps that it covers, and gives what of
// it that is.
func (t *timeline) spread(g *Group, start, duration, value int64) (sum int64) {
	from, to, step := t.From.UnixNano(), t.To.UnixNano(), int64(t.Step)
	if duration == 0 { // it is of one moment
		start, duration = min(max(start, from), to-1), 1
	}
	begin, end := max(start, from), min(start+duration, to)
	before := fraction(value, max(begin-start, 0), duration)
	for i := max(begin-from, 0) / step; begin < end; i++ {
		begin = min(from+(i+1)*step, end)
		reached := fraction(value, begin-start, duration)
		g.Sums[i] = addSaturated(g.Sums[i], reached-before)
		sum, before = sum+reached-before, reached
	}
	return sum
}

// fraction is value*part/whole, where part is at most whole, rounded down.
func fraction(value, part, whole int64) int64 {
	high, low := bits.Mul64(uint64(value), uint64(part))
	quotient, _ := bits.Div64(high, low, uint64(whole)) // at most value, so it does not overflow
	return int64(quotient)
}
