// SPDX-License-Identifier: Apache-2.0

package debuginfo

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// What became of a request.
const (
	resultOK       = "ok"
	resultInvalid  = "invalid"
	resultConflict = "conflict"
	resultRefused  = "refused"
	resultUnwanted = "unwanted"
	resultCutOff   = "cut_off"
	resultBusy     = "busy"
	resultFull     = "disk_full"
	resultFailed   = "failed"
)

type metrics struct {
	requests                       *prometheus.CounterVec // by endpoint and result
	bytes, whole, evicted, expired prometheus.Counter
	misplaced, unreadable          prometheus.Counter
}

func newMetrics(r prometheus.Registerer, k *Keeper) (*metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "fleetprof_debuginfo_" + name, Help: help})
	}
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fleetprof_debuginfo_requests_total", Help: "Requests about debug information, by endpoint and result.",
		}, []string{"endpoint", "result"}),
		bytes:      counter("received_bytes_total", "Bytes of debug information that were received."),
		whole:      counter("files_received_total", "Files of debug information that arrived whole and were right."),
		evicted:    counter("evicted_total", "Files of debug information that were removed to make room."),
		expired:    counter("expired_total", "Uploads that were thrown away because they stood still for an hour, or for a minute when their room was needed."),
		misplaced:  counter("misplaced_locations_total", "Locations left without names because their mapping is not where the file was linked to be."),
		unreadable: counter("unreadable_locations_total", "Locations left without names because their debug information could not be read."),
	}
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "fleetprof_debuginfo_" + name, Help: help}, func() float64 {
			k.mu.Lock()
			defer k.mu.Unlock()
			return value()
		})
	}
	var errs []error
	for _, c := range []prometheus.Collector{
		m.requests, m.bytes, m.whole, m.evicted, m.expired, m.misplaced, m.unreadable,
		gauge("bytes", "Disk space of debug information, uploads under way included.", func() float64 { return float64(k.bytes) }),
		gauge("files", "Files of debug information that are there whole.", func() float64 { return float64(len(k.files)) }),
		gauge("uploads", "Files of debug information that are being sent.", func() float64 { return float64(len(k.uploads)) }),
	} {
		errs = append(errs, r.Register(c))
	}
	return m, errors.Join(errs...)
}
