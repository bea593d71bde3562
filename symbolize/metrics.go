// SPDX-License-Identifier: Apache-2.0

package symbolize

import (
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fleetprof/fleetprof/symbolize/dwarfsym"
	"github.com/fleetprof/fleetprof/symbolize/index"
)

// metrics counts what goes in, what comes out, and what goes wrong.
type metrics struct {
	prefix      string // of names
	log         *slog.Logger
	results     *prometheus.CounterVec
	named       prometheus.Counter // of results
	unnamed     prometheus.Counter
	cacheHits   prometheus.Counter
	failures    *prometheus.CounterVec
	mangled     prometheus.Counter
	later       prometheus.Counter
	loadSeconds prometheus.Summary
	// Of indexes.
	builds       *prometheus.CounterVec
	buildSeconds prometheus.Counter
}

// defaultPrefix is what the names of metrics begin with.
const defaultPrefix = "fleetprof_symbolize_"

func newMetrics(prefix string, log *slog.Logger) *metrics {
	m := &metrics{
		prefix: prefix, log: log,
		results: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: prefix + "locations_total",
			Help: "Locations symbolized, by whether a name was found.",
		}, []string{"result"}),
		cacheHits: prometheus.NewCounter(prometheus.CounterOpts{
			Name: prefix + "cache_hits_total",
			Help: "Locations answered from the cache of results.",
		}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: prefix + "failures_total",
			Help: "Objects or parts of them that could not be used for naming, by reason.",
		}, []string{"reason"}),
		mangled: prometheus.NewCounter(prometheus.CounterOpts{
			Name: prefix + "demangle_failures_total",
			Help: "Names shown mangled because the demangler could not read them.",
		}),
		later: prometheus.NewCounter(prometheus.CounterOpts{
			Name: prefix + "debug_later_total",
			Help: "Locations named without inlined calls and lines, as there was no time to read debug information.",
		}),
		loadSeconds: prometheus.NewSummary(prometheus.SummaryOpts{
			Name: prefix + "load_seconds",
			Help: "Time to read the symbol tables of one object.",
		}),
		builds: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fleetprof_symbolize_index_builds_total",
			Help: "Indexes of names that were to be made, by what came of it.",
		}, []string{"result"}),
		buildSeconds: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "fleetprof_symbolize_index_build_seconds_total",
			Help: "CPU time spent on making indexes of names.",
		}),
	}
	m.named, m.unnamed = m.results.WithLabelValues("named"), m.results.WithLabelValues("unnamed")
	return m
}

func (m *metrics) register(r prometheus.Registerer, usage func() (bytes int64, tables int)) error {
	for _, collector := range []prometheus.Collector{
		m.results, m.cacheHits, m.failures, m.mangled, m.later, m.loadSeconds,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: m.prefix + "table_bytes",
			Help: "Memory of the symbol tables kept.",
		}, func() float64 { n, _ := usage(); return float64(n) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: m.prefix + "tables",
			Help: "Symbol tables kept, each with an open file.",
		}, func() float64 { _, n := usage(); return float64(n) }),
	} {
		if err := r.Register(collector); err != nil {
			return fmt.Errorf("register symbolizer metrics: %w", err)
		}
	}
	return nil
}

// incomplete counts a part of debug information that cannot be had.
func (m *metrics) incomplete(path string, err error) {
	reason := reasonDebugInfo
	switch {
	case errors.Is(err, dwarfsym.ErrSupplement):
		reason = reasonSup
	case errors.Is(err, dwarfsym.ErrSplit) && errors.Is(err, os.ErrNotExist):
		reason = reasonNoSplit
	case errors.Is(err, dwarfsym.ErrSplit):
		reason = reasonSplit
	}
	m.failures.WithLabelValues(reason).Inc()
	m.log.Debug("debug information is incomplete", "object_path", path, "error", err)
}

// registerIndexes adds the metrics of a directory of indexes.
func (m *metrics) registerIndexes(r prometheus.Registerer, d *index.Dir) error {
	gauge := func(name, help string, of func() int64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return float64(of()) })
	}
	for _, collector := range []prometheus.Collector{
		m.builds, m.buildSeconds,
		gauge("fleetprof_symbolize_index_bytes", "Disk space of the indexes of names.", func() int64 { n, _, _ := d.Usage(); return n }),
		gauge("fleetprof_symbolize_index_files", "Indexes of names on disk.", func() int64 { _, n, _ := d.Usage(); return int64(n) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "fleetprof_symbolize_index_evicted_total",
			Help: "Indexes of names removed to make room for others.",
		}, func() float64 { _, _, n := d.Usage(); return float64(n) }),
	} {
		if err := r.Register(collector); err != nil {
			return fmt.Errorf("register metrics of indexes: %w", err)
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
