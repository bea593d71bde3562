// SPDX-License-Identifier: Apache-2.0

// Package query answers questions about the stored profiles.
//
//	GET /api/v1/pprof                 one merged profile, gzip pprof
//	GET /api/v1/flamegraph            the same as a tree, JSON
//	GET /api/v1/exemplars             requests with trace ids, JSON
//	GET /api/v1/labels                names of the labels, JSON
//	GET /api/v1/labels/{name}/values  values of one label, JSON
//
// All take a selector, query={service_name="checkout"} (see Selector), and a
// time range, from, to, last and seconds (see ParseRange). A stored profile
// counts whole if its window overlaps the range: windows are not cut.
//
// Every answer is computed from the decoded profiles. These are cached within
// a bound of bytes; the number of queries at a time, the time of each and the
// size of its result are bounded too, and beyond a bound the answer is an error.
package query

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/semaphore"

	"github.com/fleetprof/fleetprof/server/store"
)

// Defaults for Options.
const (
	DefaultCacheBytes    = 64 << 20
	DefaultMaxConcurrent = 4
	DefaultTimeout       = 30 * time.Second
	DefaultMaxResult     = 256 << 20
)

// Options for New. Zero values mean the defaults.
type Options struct {
	Store      *store.Store
	Logger     *slog.Logger
	Registerer prometheus.Registerer
	// CacheBytes bounds the decoded profiles kept in memory.
	CacheBytes int64
	// MaxConcurrent bounds the queries at a time; others wait.
	MaxConcurrent int64
	// Timeout bounds a query, its wait included.
	Timeout time.Duration
	// MaxResult bounds, in bytes of memory, what one query may collect.
	MaxResult int64
}

// API answers queries. It is safe for concurrent use.
type API struct {
	store   *store.Store
	log     *slog.Logger
	metrics *metrics
	loader  *loader
	running *semaphore.Weighted
	timeout time.Duration
	limit   int64
}

// New makes the API.
func New(o Options) (*API, error) {
	c := newCache(orDefault(o.CacheBytes, DefaultCacheBytes))
	m, err := newMetrics(o.Registerer, c)
	if err != nil {
		return nil, fmt.Errorf("register query metrics: %w", err)
	}
	return &API{
		store:   o.Store,
		log:     o.Logger,
		metrics: m,
		loader:  &loader{store: o.Store, cache: c, metrics: m, seed: maphash.MakeSeed()},
		running: semaphore.NewWeighted(orDefault(o.MaxConcurrent, DefaultMaxConcurrent)),
		timeout: orDefault(o.Timeout, DefaultTimeout),
		limit:   orDefault(o.MaxResult, DefaultMaxResult),
	}, nil
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
	span     Range
	noStacks bool // the answer has no use for them
}

func parseRequest(r *http.Request, now time.Time) (request, error) {
	params := r.URL.Query()
	selector, err := ParseSelector(params.Get("query"))
	if err != nil {
		return request{}, err
	}
	span, err := ParseRange(params, now)
	return request{selector: selector, span: span}, err
}

// visit calls f for every stored profile in the range, oldest first, one at a
// time. It gives the number of those that could not be read.
func (a *API) visit(ctx context.Context, q request, f func(p *hashed) error) (skipped int, err error) {
	skipped, err = a.loader.each(ctx, a.store.Select(q.span.From, q.span.To), f)
	return skipped, a.orTooLong(err)
}

// orTooLong says of a query that took too long that it is beyond a bound.
func (a *API) orTooLong(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return &limitError{fmt.Sprintf("the query took longer than %v", a.timeout)}
	}
	return err
}

// merge collects the samples that a query selects.
func (a *API) merge(ctx context.Context, q request) (*merged, error) {
	m := newMerged(q.selector, a.limit)
	m.noStacks = q.noStacks
	skipped, err := a.visit(ctx, q, m.add)
	m.skipped = skipped
	return m, err
}

var errBusy = errors.New("the server is busy with other queries: ask again in a moment")

// limitError says that a query went beyond a bound.
type limitError struct{ reason string }

func (e *limitError) Error() string {
	return e.reason + ": ask for a shorter time range or a narrower selector"
}
