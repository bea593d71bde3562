// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	stored, duplicates, failed, damaged, torn, forgotten prometheus.Counter
	sealFailed, compactFailed, compacted                 prometheus.Counter
	removedAge, removedBytes, removeFailed               prometheus.Counter
}

func newMetrics(r prometheus.Registerer, s *Store) (*metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "fleetprof_store_" + name, Help: help})
	}
	removed := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "fleetprof_store_removed_total", Help: "Blocks, and documents of exemplars, removed, by the bound they were beyond.",
	}, []string{"reason"})
	m := &metrics{
		stored:        counter("stored_total", "Profiles and documents of exemplars stored."),
		duplicates:    counter("duplicates_total", "Profiles and documents sent again that were stored already."),
		failed:        counter("failed_total", "Profiles and documents that could not be stored; whoever sent them was told so."),
		damaged:       counter("damaged_total", "Records of a log, blocks and documents found damaged and skipped."),
		torn:          counter("torn_total", "Logs that ended in a record never written whole, which was never acknowledged."),
		forgotten:     counter("ids_forgotten_total", "Ids of profiles forgotten before 24 hours, because there were too many: sent again, such a profile counts twice."),
		sealFailed:    counter("seal_failed_total", "Times the head could not be made a block; it is tried again."),
		compactFailed: counter("compact_failed_total", "Times blocks could not be merged; it is tried again."),
		compacted:     counter("compacted_total", "Blocks merged into others."),
		removeFailed:  counter("remove_failed_total", "Files and blocks that could not be removed."),
		removedAge:    removed.WithLabelValues("age"),
		removedBytes:  removed.WithLabelValues("bytes"),
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
		m.stored, m.duplicates, m.failed, m.damaged, m.torn, m.forgotten, m.sealFailed, m.compactFailed, m.compacted, m.removeFailed, removed,
		gauge("profiles", "Profiles stored.", func() float64 { return float64(s.profiles()) }),
		gauge("exemplars", "Documents of exemplars on disk.", func() float64 { return float64(len(s.files.entries)) }),
		gauge("blocks", "Blocks on disk.", func() float64 { return float64(len(s.blocks)) }),
		gauge("head_rows", "Rows that are in memory and in the log, and in no block yet.", func() float64 { return float64(s.head.rows) }),
		gauge("bytes", "Space taken on disk.", func() float64 { return float64(s.bytes()) }),
		gauge("max_bytes", "Space that may be taken on disk.", func() float64 { return float64(s.maxBytes) }),
	} {
		errs = append(errs, r.Register(c))
	}
	return m, errors.Join(errs...)
}
