// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	stored, duplicates, failed, damaged    prometheus.Counter
	removedAge, removedBytes, removeFailed prometheus.Counter
}

func newMetrics(r prometheus.Registerer, s *Store) (*metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "fleetprof_store_" + name, Help: help})
	}
	removed := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "fleetprof_store_removed_total", Help: "Files removed, by the bound they were beyond.",
	}, []string{"reason"})
	m := &metrics{
		stored:       counter("stored_total", "Files stored: profiles, and exemplars beside them."),
		duplicates:   counter("duplicates_total", "Files put again that were stored already."),
		failed:       counter("failed_total", "Files that could not be written."),
		damaged:      counter("damaged_total", "Stored files found damaged and skipped."),
		removeFailed: counter("remove_failed_total", "Files that could not be removed."),
		removedAge:   removed.WithLabelValues("age"),
		removedBytes: removed.WithLabelValues("bytes"),
	}
	gauge := func(name, help string, f func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "fleetprof_store_" + name, Help: help}, func() float64 {
			s.mu.Lock()
			defer s.mu.Unlock()
			return f()
		})
	}
	var errs []error
	for _, c := range []prometheus.Collector{
		m.stored, m.duplicates, m.failed, m.damaged, m.removeFailed, removed,
		gauge("profiles", "Profiles on disk.", func() float64 { return float64(s.index.count(Profile)) }),
		gauge("exemplars", "Documents of exemplars on disk.", func() float64 { return float64(s.index.count(Exemplars)) }),
		gauge("bytes", "Space the files take on disk.", func() float64 { return float64(s.index.bytes) }),
		gauge("max_bytes", "Space the files may take on disk.", func() float64 { return float64(s.maxBytes) }),
	} {
		errs = append(errs, r.Register(c))
	}
	return m, errors.Join(errs...)
}
