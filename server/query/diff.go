// SPDX-License-Identifier: Apache-2.0

package query

import (
	"cmp"
	"errors"
	"net/http"
	"net/url"
	"time"
)

// diff answers with the flame graph of what a query selects beside that of what it is compared
// with, the base. The parameters are those of flamegraph, and for the base query, from, to, last
// and seconds with base_ before them; a base without a query, or without a time, has the same as
// what is compared. The answer is that of flamegraph (times in milliseconds, values in
// nanoseconds), where fields with base_ before them are of the base, and
//
//	nodes  [name, object, depth, total, self, base total, base self]
//
// Values are not normalised: who wants shares divides by total and base_total. Trimmed are the
// nodes with the smallest sum of both shares.
func (a *API) diff(r *http.Request, out *answer) error {
	now := time.Now()
	q, err := parseRequest(r, now)
	if err != nil {
		return err
	}
	base, err := parseBase(r.URL.Query(), q, now)
	if err != nil {
		return err
	}
	s, nodes, err := parseTree(r.URL.Query())
	if err != nil {
		return err
	}
	m, err := a.merge(r.Context(), s.of(q))
	if err != nil {
		return err
	}
	b, err := a.merge(r.Context(), s.of(base))
	if err != nil {
		return err
	}
	t, err := newTree(r.Context(), s, m, b)
	if err != nil {
		return err
	}
	p, err := t.plot(r.Context(), nodes)
	if err != nil {
		return err
	}
	o := out.object()
	o.field("from", q.span.From.UnixMilli())
	o.field("to", q.span.To.UnixMilli())
	o.field("base_from", base.span.From.UnixMilli())
	o.field("base_to", base.span.To.UnixMilli())
	o.field("unit", q.unit(cmp.Or(m.kind.Unit, b.kind.Unit)))
	o.field("total", m.total)
	o.field("base_total", b.total)
	o.field("samples", m.samples)
	o.field("base_samples", b.samples)
	o.field("skipped", m.skipped+b.skipped)
	o.field("hidden", p.hidden[0])
	o.field("base_hidden", p.hidden[1])
	array(o, "names", p.names.values)
	array(o, "objects", p.objects.values)
	o.name("nodes")
	separator := "["
	for _, at := range p.boxes {
		is, was := t.amounts[0][at.node], t.amounts[1][at.node]
		o.text(separator)
		o.value([7]int64{at.name, at.object, at.depth, is.total, is.self, was.total, was.self})
		separator = ","
	}
	o.text("]")
	return o.end()
}

// parseBase reads what q is compared with.
func parseBase(params url.Values, q request, now time.Time) (base request, err error) {
	const prefix = "base_"
	base = q
	hasQuery := params.Has(prefix + "query")
	if hasQuery {
		if base.selector, err = ParseSelector(params.Get(prefix + "query")); err != nil {
			return base, inBase(err)
		}
	}
	span := url.Values{}
	for _, name := range []string{"from", "to", "last", "seconds"} {
		if v := params.Get(prefix + name); v != "" {
			span.Set(name, v)
		}
	}
	if len(span) > 0 {
		if base.span, err = ParseRange(span, now); err != nil {
			return base, inBase(err)
		}
	} else if !hasQuery {
		return base, &paramError{prefix + "from", "", "say what to compare with: base_query, or base_from and base_to"}
	}
	return base, nil
}

// inBase says of a wrong parameter that it is one of the base.
func inBase(err error) error {
	var bad *paramError
	if errors.As(err, &bad) {
		return &paramError{"base_" + bad.name, bad.given, bad.expected}
	}
	return err
}
