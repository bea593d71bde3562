// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// What became of a profile that arrived.
const (
	resultStored   = "stored"
	resultInvalid  = "invalid"
	resultTooLarge = "too_large"
	resultCutOff   = "cut_off"
	resultBusy     = "busy"
	resultClosing  = "closing"
	resultFull     = "disk_full"
	resultFailed   = "failed"
)

type metrics struct {
	profiles, exemplars *prometheus.CounterVec // by result
	samples             prometheus.Counter
	bytes               prometheus.Counter
	seconds             prometheus.Histogram
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		profiles: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fleetprof_ingest_profiles_total", Help: "Profiles that arrived, by what became of them.",
		}, []string{"result"}),
		exemplars: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fleetprof_ingest_exemplars_total", Help: "Documents of exemplars that arrived, by what became of them.",
		}, []string{"result"}),
		samples: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "fleetprof_ingest_samples_total", Help: "Samples in the profiles stored, repeats included.",
		}),
		bytes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "fleetprof_ingest_bytes_total", Help: "Bytes of compressed profiles and exemplars that arrived whole.",
		}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "fleetprof_ingest_duration_seconds", Help: "Time from a request's header to its answer.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 8),
		}),
	}
	return m, errors.Join(r.Register(m.profiles), r.Register(m.exemplars), r.Register(m.samples), r.Register(m.bytes), r.Register(m.seconds))
}
