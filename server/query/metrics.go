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

func newMetrics(r prometheus.Registerer, c *cache) (*metrics, error) {
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
		cacheHits:   counter("cache_hits_total", "Stored profiles found decoded."),
		cacheMisses: counter("cache_misses_total", "Stored profiles that had to be decoded."),
		readErrors:  counter("read_errors_total", "Stored profiles left out of an answer because their file could not be read."),
	}
	held := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "fleetprof_query_cache_bytes", Help: "Memory the decoded profiles take.",
	}, func() float64 { return float64(c.held()) })
	var errs []error
	for _, c := range []prometheus.Collector{m.requests, m.seconds, m.cacheHits, m.cacheMisses, m.readErrors, held} {
		errs = append(errs, r.Register(c))
	}
	return m, errors.Join(errs...)
}
