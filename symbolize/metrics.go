// SPDX-License-Identifier: Apache-2.0

package symbolize

import (
	"fmt"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics counts what goes in, what comes out, and what goes wrong.
type metrics struct {
	log         *slog.Logger
	results     *prometheus.CounterVec
	cacheHits   prometheus.Counter
	failures    *prometheus.CounterVec
	mangled     prometheus.Counter
	loadSeconds prometheus.Summary
}

func newMetrics(log *slog.Logger) *metrics {
	return &metrics{
		log: log,
		results: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fleetprof_symbolize_locations_total",
			Help: "Locations symbolized, by whether a name was found.",
		}, []string{"result"}),
		cacheHits: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "fleetprof_symbolize_cache_hits_total",
			Help: "Locations answered from the cache of results.",
		}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fleetprof_symbolize_failures_total",
			Help: "Objects or parts of them that could not be used for naming, by reason.",
		}, []string{"reason"}),
		mangled: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "fleetprof_symbolize_demangle_failures_total",
			Help: "Names shown mangled because the demangler could not read them.",
		}),
		loadSeconds: prometheus.NewSummary(prometheus.SummaryOpts{
			Name: "fleetprof_symbolize_load_seconds",
			Help: "Time to read the symbol tables of one object.",
		}),
	}
}

func (m *metrics) register(r prometheus.Registerer, c *cache) error {
	for _, collector := range []prometheus.Collector{
		m.results, m.cacheHits, m.failures, m.mangled, m.loadSeconds,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "fleetprof_symbolize_table_bytes",
			Help: "Memory of the symbol tables kept.",
		}, func() float64 { n, _ := c.usage(); return float64(n) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "fleetprof_symbolize_tables",
			Help: "Symbol tables kept, each with an open file.",
		}, func() float64 { _, n := c.usage(); return float64(n) }),
	} {
		if err := r.Register(collector); err != nil {
			return fmt.Errorf("register symbolizer metrics: %w", err)
		}
	}
	return nil
}

// report counts and logs what a table had to do without.
func (m *metrics) report(path string, problems []problem) {
	for _, p := range problems {
		m.failures.WithLabelValues(p.reason).Inc()
		m.log.Warn("object has only a part of its names", "object_path", path, "error", p.err)
	}
}
