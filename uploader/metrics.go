// SPDX-License-Identifier: Apache-2.0

package uploader

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fleetprof/fleetprof/sample"
)

// Why a profile was dropped.
const (
	reasonQueueFull = "queue_full"
	reasonRejected  = "rejected"
	reasonShutdown  = "shutdown"
)

type metrics struct {
	profilesIn, samplesIn           prometheus.Counter
	profilesSent, samplesSent       *prometheus.CounterVec // by destination
	profilesDropped, samplesDropped *prometheus.CounterVec // by destination and reason
	retries                         *prometheus.CounterVec // by destination
	exemplarsDropped                *prometheus.CounterVec // by destination
	queueBytes                      *prometheus.GaugeVec   // by destination
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	opts := func(name, help string) prometheus.CounterOpts {
		return prometheus.CounterOpts{Name: "fleetprof_uploader_" + name, Help: help}
	}
	destination, reason := []string{"destination"}, []string{"destination", "reason"}
	m := &metrics{
		profilesIn:      prometheus.NewCounter(opts("profiles_in_total", "Profiles handed over to be sent.")),
		samplesIn:       prometheus.NewCounter(opts("samples_in_total", "Samples in the profiles handed over.")),
		profilesSent:    prometheus.NewCounterVec(opts("profiles_sent_total", "Profiles taken by a destination."), destination),
		samplesSent:     prometheus.NewCounterVec(opts("samples_sent_total", "Samples in the profiles taken."), destination),
		profilesDropped: prometheus.NewCounterVec(opts("profiles_dropped_total", "Profiles given up, by reason."), reason),
		samplesDropped:  prometheus.NewCounterVec(opts("samples_dropped_total", "Samples in the profiles given up, by reason."), reason),
		retries:         prometheus.NewCounterVec(opts("retries_total", "Attempts that failed and are made again."), destination),
		exemplarsDropped: prometheus.NewCounterVec(opts("exemplars_dropped_total",
			"Documents of exemplars refused by a destination that took their profile."), destination),
		queueBytes: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "fleetprof_uploader_queue_bytes", Help: "Bytes of profiles waiting to be sent.",
		}, destination),
	}
	var errs []error
	for _, c := range []prometheus.Collector{
		m.profilesIn, m.samplesIn, m.profilesSent, m.samplesSent, m.profilesDropped, m.samplesDropped, m.retries, m.exemplarsDropped, m.queueBytes,
	} {
		errs = append(errs, r.Register(c))
	}
	return m, errors.Join(errs...)
}

// destinationMetrics are the metrics of one kind of destination. Two of the
// same kind share them.
type destinationMetrics struct {
	profilesSent, samplesSent, retries prometheus.Counter
	exemplarsDropped                   prometheus.Counter
	queueBytes                         prometheus.Gauge
	profilesDropped, samplesDropped    *prometheus.CounterVec // by reason
}

func (m *metrics) forKind(kind string) *destinationMetrics {
	l := prometheus.Labels{"destination": kind}
	return &destinationMetrics{
		profilesSent:     m.profilesSent.With(l),
		samplesSent:      m.samplesSent.With(l),
		retries:          m.retries.With(l),
		exemplarsDropped: m.exemplarsDropped.With(l),
		queueBytes:       m.queueBytes.With(l),
		profilesDropped:  m.profilesDropped.MustCurryWith(l),
		samplesDropped:   m.samplesDropped.MustCurryWith(l),
	}
}

func (d *destinationMetrics) sent(p sample.Profile) {
	d.profilesSent.Inc()
	d.samplesSent.Add(float64(p.Samples))
}

func (d *destinationMetrics) drop(reason string, p sample.Profile) {
	d.profilesDropped.WithLabelValues(reason).Inc()
	d.samplesDropped.WithLabelValues(reason).Add(float64(p.Samples))
}
