// SPDX-License-Identifier: Apache-2.0

package query

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fleetprof/fleetprof/server/store/block"
)

// Bounds of the parameters max_nodes, max_depth and by.
const (
	defaultNodes = 16_384
	maxNodes     = 1 << 18
	maxDepth     = 1 << 20
	maxBy        = 8
)

// Register adds the endpoints to a mux.
func (a *API) Register(mux *http.ServeMux) {
	for _, e := range []struct {
		name, pattern string
		handle        func(r *http.Request, out *answer) error
		refuse        func(w http.ResponseWriter, status int, err error)
	}{
		{"pprof", "GET /api/v1/pprof", a.pprof, refuseText},
		{"flamegraph", "GET /api/v1/flamegraph", a.flamegraph, refuseJSON},
		{"diff", "GET /api/v1/diff", a.diff, refuseJSON},
		{"series", "GET /api/v1/series", a.series, refuseJSON},
		{"exemplars", "GET /api/v1/exemplars", a.exemplars, refuseJSON},
		{"types", "GET /api/v1/types", a.types, refuseJSON},
		{"labels", "GET /api/v1/labels", a.labels, refuseJSON},
		{"label_values", "GET /api/v1/labels/{name}/values", a.labelValues, refuseJSON},
	} {
		mux.Handle(e.pattern, a.Scope(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			begin := time.Now()
			out := &answer{header: http.Header{}, claim: claimOf(r.Context())}
			err := a.inTurn(r.Context(), func(ctx context.Context) error { return e.handle(r.WithContext(ctx), out) })
			if err == nil {
				err = out.send(w)
			}
			a.count(e.name, begin, err)
			if err == nil {
				return
			}
			if status, result := classify(err); result != clientGone {
				e.refuse(w, status, err)
			}
		})))
	}
}

func (a *API) pprof(r *http.Request, out *answer) error {
	q, err := parseRequest(r, time.Now())
	if err != nil {
		return err
	}
	m, err := a.merge(r.Context(), q)
	if err != nil {
		return err
	}
	if len(m.rows.values) == 0 {
		return a.noData(r.Context(), q)
	}
	out.header.Set("Content-Type", "application/octet-stream")
	out.header.Set("Content-Disposition", fmt.Sprintf(`attachment; filename="fleetprof-%s.pb.gz"`, q.span.To.UTC().Format("20060102T150405Z")))
	return m.writePProf(r.Context(), out)
}

// flamegraph answers with a flame graph as JSON, all values being in the unit of the
// type and all times milliseconds since the Unix epoch:
//
//	from, to        the range asked for
//	oldest, newest  the extent of all that is stored; 0 when there is nothing
//	unit, total     "nanoseconds" of CPU time, and the value of the root
//	samples         how many are selected
//	hosts           of which something is selected
//	profiles        of these hosts in the range
//	skipped         parts of the store that could not be read
//	hidden          value without a node of its own, by the trimming
//	names, objects  texts that nodes refer to
//	nodes           [name, object, depth, total, self] in pre-order, the
//	                children of a node by name; the first is the root, "all"
//
// by=LABEL,… puts the values of each label below the root, the first outermost,
// and "(no LABEL)" where it is absent; max_depth is how many levels there are
// below the root, so that by=a,b&max_depth=2 are sums by labels without any
// stack; max_nodes trims.
func (a *API) flamegraph(r *http.Request, out *answer) error {
	q, err := parseRequest(r, time.Now())
	if err != nil {
		return err
	}
	s, limit, err := parseTree(r.URL.Query())
	if err != nil {
		return err
	}
	g, err := a.draw(r.Context(), q, s, limit)
	if err != nil {
		return err
	}
	o := out.object()
	o.field("from", g.From)
	o.field("to", g.To)
	o.field("oldest", g.Oldest)
	o.field("newest", g.Newest)
	o.field("unit", g.Unit)
	o.field("total", g.Total)
	o.field("samples", g.Samples)
	o.field("profiles", g.Profiles)
	o.field("hosts", g.Hosts)
	o.field("skipped", g.Skipped)
	o.field("hidden", g.Hidden)
	array(o, "names", g.Names)
	array(o, "objects", g.Objects)
	array(o, "nodes", g.Nodes)
	return o.end()
}

// draw makes the flame graph of what a query selects, of at most so many nodes.
func (a *API) draw(ctx context.Context, q request, s shape, nodes int) (*FlameGraph, error) {
	m, err := a.merge(ctx, s.of(q))
	if err != nil {
		return nil, err
	}
	t, err := newTree(ctx, s, m)
	if err != nil {
		return nil, err
	}
	g := &FlameGraph{
		From: q.span.From.UnixMilli(), To: q.span.To.UnixMilli(),
		Unit: q.unit(m.kind.Unit), Total: t.amounts[0][0].total, Samples: m.samples,
		Profiles: m.profiles, Hosts: len(m.hosts), Skipped: m.skipped,
	}
	if oldest, newest, ok := a.store.Bounds(); ok {
		g.Oldest, g.Newest = oldest.UnixMilli(), newest.UnixMilli()
	}
	return g, t.trim(ctx, g, nodes)
}

// parseTree reads the shape of a tree, and how many nodes it may have.
func parseTree(params url.Values) (s shape, nodes int, err error) {
	if s.by, err = parseBy(params.Get("by")); err != nil {
		return s, 0, err
	}
	if s.depth, err = parseNumber(params, "max_depth", maxDepth, maxDepth); err != nil {
		return s, 0, err
	}
	nodes, err = parseNumber(params, "max_nodes", defaultNodes, maxNodes)
	return s, nodes, err
}

// parseBy reads the names of labels, separated by commas.
func parseBy(text string) ([]string, error) {
	if text == "" {
		return nil, nil
	}
	by := strings.Split(text, ",")
	for i, name := range by {
		if name == "" || i >= maxBy || slices.Contains(by[:i], name) {
			return nil, &paramError{"by", text, fmt.Sprintf("want at most %d different labels, with commas between", maxBy)}
		}
	}
	return by, nil
}

// parseNumber reads a number from 1 to most.
func parseNumber(params url.Values, name string, standard, most int) (int, error) {
	text := params.Get(name)
	if text == "" {
		return standard, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > most {
		return 0, &paramError{name, text, fmt.Sprintf("want a number from 1 to %d", most)}
	}
	return n, nil
}

// types lists the types of profiles that the selected samples have, whatever the parameter
// type says.
func (a *API) types(r *http.Request, out *answer) error {
	q, err := parseRequest(r, time.Now())
	if err != nil {
		return err
	}
	q.lists = true
	data, err := a.collect(r.Context(), q, typeNames)
	if err != nil {
		return err
	}
	return out.success(data)
}

func (a *API) labels(r *http.Request, out *answer) error {
	return a.answerList(r, out, labelNames)
}

func (a *API) labelValues(r *http.Request, out *answer) error {
	return a.answerList(r, out, valuesOf(r.PathValue("name")))
}

// listing calls add with what the series of a part have of what is listed.
type listing func(ctx context.Context, p *part, add func(text string) error) error

func typeNames(ctx context.Context, p *part, add func(text string) error) error {
	return p.series(ctx, func(s block.Series) error { return add(kindOf(p.index.Types[s.Type]).String()) })
}

func labelNames(ctx context.Context, p *part, add func(text string) error) error {
	if p.all() {
		if p.index.Processes {
			if err := add(block.ProcessLabel); err != nil {
				return err
			}
		}
		names, err := p.labels.Names()
		for _, name := range names {
			if err := add(name); err != nil {
				return err
			}
		}
		return asUnreadable(err)
	}
	err := p.eachProcess(ctx, func(uint32) error { return cmp.Or(add(block.ProcessLabel), errEnough) })
	if err != nil && !errors.Is(err, errEnough) {
		return err
	}
	has, err := p.setsInRange(ctx)
	if err != nil {
		return err
	}
	d, err := p.sets(has, nil)
	if err != nil {
		return err
	}
	found := make([]bool, len(d.LabelSets.Labels()))
	for set, ok := range has {
		if !ok {
			continue
		}
		for _, n := range d.LabelSets.Numbers(uint32(set)) {
			found[n] = true
		}
	}
	for n, l := range d.LabelSets.Labels() {
		if !found[n] {
			continue
		}
		if err := add(d.Strings[l.Key]); err != nil {
			return err
		}
	}
	return nil
}

func valuesOf(name string) listing {
	return func(ctx context.Context, p *part, add func(text string) error) error {
		if name == block.ProcessLabel {
			err := p.eachProcess(ctx, func(process uint32) error { return add(block.ProcessText(process)) })
			if err != nil {
				return err
			}
		}
		has, err := p.setsInRange(ctx)
		if err != nil {
			return err
		}
		column, err := p.column(name)
		if err != nil {
			return err
		}
		for run := range column.Runs() {
			if run.Text == 0 || !slices.Contains(has[run.First:run.End], true) {
				continue
			}
			if err := add(column.Texts[run.Text]); err != nil {
				return err
			}
		}
		return nil
	}
}

func (a *API) answerList(r *http.Request, out *answer, listed listing) error {
	q, err := parseRequest(r, time.Now())
	if err != nil {
		return err
	}
	data, err := a.collect(r.Context(), q, listed)
	if err != nil {
		return err
	}
	return out.success(data)
}

// success answers with a list, in the way of the API of Prometheus.
func (a *answer) success(data []string) error {
	o := a.object()
	o.field("status", "success")
	array(o, "data", data)
	return o.end()
}

// collect gives what is listed of the selected label sets, sorted.
func (a *API) collect(ctx context.Context, q request, listed listing) ([]string, error) {
	found, bytes := map[string]struct{}{}, int64(0)
	c := claimOf(ctx)
	_, err := a.visit(ctx, q, func(p *part) error {
		hold := func() error { return c.hold(bytes + p.bytes) }
		err := listed(ctx, p, func(text string) error {
			if _, ok := found[text]; !ok {
				found[text] = struct{}{}
				bytes += int64(len(text)) + 2*16 + mapOverhead
			}
			return hold()
		})
		return cmp.Or(err, hold())
	})
	if err != nil {
		return nil, err
	}
	return slices.Sorted(maps.Keys(found)), c.hold(bytes)
}
