// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// Ways in which profiles arrive. Exemplars are counted apart.
const (
	protocolPush      = "push"
	protocolPProf     = "pprof"
	protocolPyroscope = "pyroscope"
	protocolParca     = "parca"
	protocolOTLP      = "otlp"
	protocolExemplars = "exemplars"
)

// What became of what arrived.
const (
	resultStored   = "stored"
	resultInvalid  = "invalid"
	resultTooLarge = "too_large"
	resultCutOff   = "cut_off"
	resultBusy     = "busy"
	resultClosing  = "closing"
	resultFull     = "disk_full"
	resultFailed   = "failed"
	resultSession  = "session" // sent again in a new one
)

type metrics struct {
	profiles   *prometheus.CounterVec // by protocol and result
	exemplars  *prometheus.CounterVec // by result
	samples    prometheus.Counter
	attributes prometheus.Counter
	bytes      prometheus.Counter
	seconds    prometheus.Histogram

	sessions      prometheus.Gauge
	sessionBytes  prometheus.Gauge
	sessionsEnded *prometheus.CounterVec // by reason
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		profiles: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fleetprof_ingest_profiles_total", Help: "Profiles that arrived, by protocol and by what became of them.",
		}, []string{"protocol", "result"}),
		exemplars: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fleetprof_ingest_exemplars_total", Help: "Documents of exemplars that arrived, by what became of them.",
		}, []string{"result"}),
		samples: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "fleetprof_ingest_samples_total", Help: "Samples in the profiles stored, repeats included.",
		}),
		attributes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "fleetprof_ingest_attributes_dropped_total", Help: "Attributes of OTLP profiles left out because they are lists, maps or bytes.",
		}),
		bytes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "fleetprof_ingest_bytes_total", Help: "Bytes of bodies that arrived whole, as they were sent.",
		}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "fleetprof_ingest_duration_seconds", Help: "Time from a request's header to its answer.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 8),
		}),
		sessions: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "fleetprof_ingest_sessions", Help: "Sessions of agents whose stacks are remembered.",
		}),
		sessionBytes: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "fleetprof_ingest_session_bytes", Help: "Memory of these sessions.",
		}),
		sessionsEnded: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fleetprof_ingest_sessions_ended_total", Help: "Sessions forgotten: idle, evicted (idle for less, but room was needed), refused (no room beside those in use).",
		}, []string{"reason"}),
	}
	var errs []error
	for _, c := range []prometheus.Collector{m.profiles, m.exemplars, m.samples, m.attributes, m.bytes, m.seconds, m.sessions, m.sessionBytes, m.sessionsEnded} {
		errs = append(errs, r.Register(c))
	}
	return m, errors.Join(errs...)
}
