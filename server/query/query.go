// SPDX-License-Identifier: Apache-2.0

// Package query answers questions about the stored profiles.
//
//	GET /api/v1/pprof                 one merged profile, gzip pprof
//	GET /api/v1/flamegraph            the same as a tree, JSON
//	GET /api/v1/diff                  two of them in one tree, JSON
//	GET /api/v1/series                sums over time, JSON
//	GET /api/v1/exemplars             requests with trace ids, JSON
//	GET /api/v1/types                 types of profiles, JSON
//	GET /api/v1/labels                names of the labels, JSON
//	GET /api/v1/labels/{name}/values  values of one label, JSON
//
// All take a selector, query={service_name="checkout"} (see Selector), a type of
// profile, type=memory:inuse_space (CPU time if it is left out, see parseKind), and a
// time range, from, to, last and seconds (see ParseRange). A window counts whole if it
// overlaps the range: windows are not cut. Windows are 10 s long as agents send them; the
// store folds those of a host to a minute after two hours and to ten minutes after a day,
// so then the edges of a range are as coarse.
//
// A query first looks which series of which blocks have the type and the labels, and
// reads only their rows, and of the stacks only the pages that these refer to. What is read
// beside rows is cached within a bound of bytes. The number of queries at a time is bounded, and that of one client; so are the time
// of each, and the memory of each and of all together. Beyond a bound the answer is an error
// that says which, and an answer is sent only when it is whole:
//
//	400  a parameter is wrong
//	404  nothing is stored of what is asked for (pprof only)
//	422  the query takes more than its memory, or than an answer holds
//	429  too many queries of this client wait
//	503  other queries are in the way; Retry-After says when to come again
//	504  the query takes too long
package query

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fleetprof/fleetprof/internal/cputime"
	"github.com/fleetprof/fleetprof/server/store"
)

// Defaults for Options.
const (
	DefaultCacheBytes    = 192 << 20
	DefaultMaxConcurrent = 4
	DefaultTimeout       = 30 * time.Second
	DefaultMaxResult     = 256 << 20
	DefaultMaxMemory     = 512 << 20
)

// Options for New. Zero values mean the defaults.
type Options struct {
	Store      *store.Store
	Logger     *slog.Logger
	Registerer prometheus.Registerer
	// CacheBytes bounds what is kept in memory of blocks: two thirds are for indexes, of which
	// a question needs all, and one for symbols and pages of stacks, which it needs only where it
	// finds something.
	CacheBytes int64
	// MaxConcurrent bounds the queries at a time; others wait. One client has half of
	// them, rounded up.
	MaxConcurrent int64
	// Timeout bounds a query, its wait included.
	Timeout time.Duration
	// MaxResult bounds, in bytes of memory, what one query may collect, its answer included;
	// MaxMemory what all of them may.
	MaxResult, MaxMemory int64
	// Names names code of which profiles have only the address; it may be nil.
	Names Namer
	// Meter counts the CPU time of answers; it may be nil.
	Meter *cputime.Meter
	// Client tells clients apart; without it all are one.
	Client func(r *http.Request) string
}

// API answers queries. It is safe for concurrent use.
type API struct {
	store   *store.Store
	log     *slog.Logger
	metrics *metrics
	cache   caches
	turns   *turns
	memory  *memory
	names   Namer
	meter   *cputime.Meter
	timeout time.Duration
	limit   int64 // of the memory of one request, in bytes
	client  func(r *http.Request) string
}

// New makes the API.
func New(o Options) (*API, error) {
	third := orDefault(o.CacheBytes, DefaultCacheBytes) / 3
	a := &API{
		store:   o.Store,
		log:     o.Logger,
		cache:   caches{indexes: newCache(2 * third), symbols: newCache(third)},
		turns:   newTurns(int(orDefault(o.MaxConcurrent, DefaultMaxConcurrent))),
		memory:  &memory{max: orDefault(o.MaxMemory, DefaultMaxMemory)},
		timeout: orDefault(o.Timeout, DefaultTimeout),
		limit:   orDefault(o.MaxResult, DefaultMaxResult),
		names:   o.Names,
		meter:   o.Meter,
		client:  o.Client,
	}
	var err error
	if a.metrics, err = newMetrics(o.Registerer, a); err != nil {
		return nil, fmt.Errorf("register query metrics: %w", err)
	}
	return a, nil
}

func orDefault[T time.Duration | int64](v, standard T) T {
	if v == 0 {
		return standard
	}
	return v
}

// request is what every query has.
type request struct {
	selector Selector
	kind     kind
	span     Range
	noStacks bool // the answer has no use for them
	drawn    bool // the answer has no use for labels but by, nor of named code for more than the names
	by       []string
	samples  bool   // are counted, not CPU time
	lists    bool   // types may be several, since no values are summed up:
	oneOf    []kind // these, or all of them
}

// unit is that of the answer, if values of a unit were found.
func (q request) unit(found string) string {
	switch {
	case q.samples:
		return "count"
	case q.kind == defaultKind:
		return cmp.Or(found, "nanoseconds")
	}
	return cmp.Or(found, q.kind[2])
}

func parseRequest(r *http.Request, now time.Time) (request, error) {
	params := r.URL.Query()
	selector, err := ParseSelector(params.Get("query"))
	if err != nil {
		return request{}, err
	}
	k, err := parseKind(params.Get("type"))
	if err != nil {
		return request{}, err
	}
	span, err := ParseRange(params, now)
	return request{selector: selector, kind: k, span: span}, err
}

// merge collects the samples that a query selects.
func (a *API) merge(ctx context.Context, q request) (*merged, error) {
	m := newMerged(claimOf(ctx))
	m.noStacks, m.drawn, m.by, m.limit = q.noStacks, q.drawn, q.by, a.limit
	skipped, err := a.visit(ctx, q, func(p *part) error { return m.add(ctx, p) })
	m.skipped = skipped
	if err != nil {
		return nil, err
	}
	m.sum()
	if err := m.name(ctx, a.names); err != nil {
		return nil, a.orTooLong(err)
	}
	return m, m.hold(0)
}
