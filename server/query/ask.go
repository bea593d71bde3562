// SPDX-License-Identifier: Apache-2.0

package query

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// Question is what the other protocols of the server ask: what the parameters say for HTTP.
// The bounds are the same.
type Question struct {
	// Protocol is who asks, for the metrics.
	Protocol string
	Selector Selector
	Range    Range
	// Types are of profiles, as the parameter type has them. Lists are of all of these, or of
	// all there are; sums are of one, or of CPU time.
	Types []string
	// Samples are counted then, not their values.
	Samples bool
}

func (q Question) request() (request, error) {
	out := request{selector: q.Selector, kind: defaultKind, span: q.Range, samples: q.Samples}
	for _, text := range q.Types {
		k, err := parseKind(text)
		if err != nil {
			return out, err
		}
		out.oneOf = append(out.oneOf, k)
	}
	if len(out.oneOf) == 1 {
		out.kind = out.oneOf[0]
	}
	return out, nil
}

// answer answers a question in its turn. What an answer takes of the memory after that is what
// size gives.
func (q Question) answer(ctx context.Context, a *API, name string, answer func(ctx context.Context, r request) (size int64, err error)) error {
	begin := time.Now()
	err := a.inTurn(ctx, func(ctx context.Context) error {
		r, err := q.request()
		if err != nil {
			return err
		}
		size, err := answer(ctx, r)
		if err != nil {
			return err
		}
		return claimOf(ctx).hold(size)
	})
	a.count(q.Protocol+"_"+name, begin, err)
	return err
}

// list answers a question for a list.
func (q Question) list(ctx context.Context, a *API, name string, listed listing) (all []string, err error) {
	err = q.answer(ctx, a, name, func(ctx context.Context, r request) (int64, error) {
		r.lists = true
		all, err = a.collect(ctx, r, listed)
		return sizeOf(all), err
	})
	return all, err
}

// sizeOf is how many bytes texts take, and what is made of them to be sent.
func sizeOf(texts []string) (bytes int64) {
	for _, s := range texts {
		bytes += 2*int64(len(s)) + 32
	}
	return bytes
}

// Types gives the types of profiles of the selected samples, sorted, as the parameter type has
// them.
func (a *API) Types(ctx context.Context, q Question) ([]string, error) {
	return q.list(ctx, a, "types", typeNames)
}

// LabelNames gives the names of the labels that the selected samples have, sorted.
func (a *API) LabelNames(ctx context.Context, q Question) ([]string, error) {
	return q.list(ctx, a, "labels", labelNames)
}

// LabelValues gives the values of one label of the selected samples, sorted.
func (a *API) LabelValues(ctx context.Context, q Question, name string) ([]string, error) {
	return q.list(ctx, a, "label_values", valuesOf(name))
}

// Series sums by labels and by steps from the begin of the range.
func (a *API) Series(ctx context.Context, q Question, by []string, step time.Duration) (s *Series, err error) {
	if step < time.Millisecond {
		return nil, &paramError{"step", step.String(), "want at least a millisecond"}
	}
	if len(by) > maxBy {
		return nil, &paramError{"by", fmt.Sprint(by), fmt.Sprintf("want at most %d labels", maxBy)}
	}
	err = q.answer(ctx, a, "series", func(ctx context.Context, r request) (size int64, err error) {
		if s, err = a.sumOverTime(ctx, r, by, step); err != nil {
			return 0, err
		}
		for _, g := range s.Groups {
			size += sizeOf(g.Values) + 48*int64(len(g.Sums))
		}
		return size, nil
	})
	return s, err
}

// FlameGraph draws the selected samples with at most so many nodes; 0 is the default.
func (a *API) FlameGraph(ctx context.Context, q Question, nodes int64) (g *FlameGraph, err error) {
	if nodes <= 0 {
		nodes = defaultNodes
	}
	err = q.answer(ctx, a, "flamegraph", func(ctx context.Context, r request) (int64, error) {
		if g, err = a.draw(ctx, r, shape{depth: maxDepth, samples: q.Samples}, int(min(nodes, maxNodes))); err != nil {
			return 0, err
		}
		return sizeOf(g.Names) + sizeOf(g.Objects) + 160*int64(len(g.Nodes)), nil
	})
	return g, err
}

// unpacked is about how much larger a profile is in memory than it is written.
const unpacked = 8

// Profile gives the merged profile of the one type that is asked for, as pprof that is not
// compressed: nothing if no sample is selected. It may be as large as lets the caller unpack it
// within the memory of the query.
func (a *API) Profile(ctx context.Context, q Question) (raw []byte, err error) {
	err = q.answer(ctx, a, "pprof", func(ctx context.Context, r request) (int64, error) {
		m, err := a.merge(ctx, r)
		if err != nil || len(m.rows.values) == 0 {
			return 0, err
		}
		m.limit /= unpacked
		m.only = onlyValues
		if q.Samples {
			m.only = onlyCounts
		}
		out := &answer{claim: m.claim}
		e := &encoder{ctx: ctx, w: out, limit: m.limit}
		if err := m.encode(e); err != nil {
			return 0, err
		}
		raw = slices.Concat(out.chunks...)
		return unpacked * int64(len(raw)), nil
	})
	return raw, err
}

// Extent is the time of all that is stored, false if that is nothing.
func (a *API) Extent() (Range, bool) {
	oldest, newest, ok := a.store.Bounds()
	return Range{oldest, newest}, ok
}

// Status is that of HTTP for the error of a question, see the package.
func Status(err error) int {
	status, _ := classify(err)
	return status
}
