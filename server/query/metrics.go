// SPDX-License-Identifier: Apache-2.0

package query

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	requests               *prometheus.CounterVec   // by endpoint and result
	seconds                *prometheus.HistogramVec // by endpoint
	cacheHits, cacheMisses prometheus.Counter
	readErrors             prometheus.Counter
}

func newMetrics(r prometheus.Registerer, a *API) (*metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "fleetprof_query_" + name, Help: help})
	}
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fleetprof_query_requests_total", Help: "Queries answered, by endpoint and by result.",
		}, []string{"endpoint", "result"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "fleetprof_query_duration_seconds", Help: "Time from a query to the end of its answer.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 9),
		}, []string{"endpoint"}),
		cacheHits:   counter("cache_hits_total", "Indexes, names and pages of stacks of blocks found in memory."),
		cacheMisses: counter("cache_misses_total", "Indexes, names and pages of stacks of blocks that had to be read."),
		readErrors:  counter("read_errors_total", "Stored profiles left out of an answer because their file could not be read."),
	}
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "fleetprof_query_" + name, Help: help}, value)
	}
	var errs []error
	for _, c := range []prometheus.Collector{
		m.requests, m.seconds, m.cacheHits, m.cacheMisses, m.readErrors,
		gauge("cache_bytes", "Memory that indexes, names and pages of stacks of blocks take.", func() float64 { return float64(a.cache.held()) }),
		gauge("memory_bytes", "Memory of queries and of answers that are not sent yet.", func() float64 { return float64(a.memory.held()) }),
		gauge("running", "Queries being answered.", func() float64 { running, _ := a.turns.counts(); return float64(running) }),
		gauge("waiting", "Queries that wait for their turn.", func() float64 { _, waiting := a.turns.counts(); return float64(waiting) }),
	} {
		errs = append(errs, r.Register(c))
	}
	return m, errors.Join(errs...)
}
