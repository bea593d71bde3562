// SPDX-License-Identifier: Apache-2.0

package uploader

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fleetprof/fleetprof/reshape"
)

// Why a profile was dropped.
const (
	reasonQueueFull = "queue_full" // no room in memory, and none to be had on disk
	reasonSpoolFull = "spool_full" // no room on disk
	reasonTooOld    = "too_old"    // it has waited too long
	reasonRejected  = "rejected"   // the destination refuses it for good; with an underscore and its word for that, if there is one
	reasonCorrupt   = "corrupt"    // what was read from the disk is not what was written
	reasonShutdown  = "shutdown"   // the agent ends, and the profile is not on disk
)

// metrics are of all destinations, by destination and, for what is dropped, reason. For
// each destination in + recovered = sent + dropped + waiting, of profiles and of samples.
type metrics struct {
	registerer                            prometheus.Registerer
	profilesIn, samplesIn                 *prometheus.CounterVec
	profilesRecovered, samplesRecovered   *prometheus.CounterVec
	profilesSent, samplesSent             *prometheus.CounterVec
	profilesDropped, samplesDropped       *prometheus.CounterVec
	retries, exemplarsDropped, spoolFails *prometheus.CounterVec
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	var errs []error
	counter := func(name, help string, more ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "fleetprof_uploader_" + name, Help: help}, append([]string{"destination"}, more...))
		errs = append(errs, r.Register(c))
		return c
	}
	m := &metrics{
		registerer:        r,
		profilesIn:        counter("profiles_in_total", "Profiles handed over to be sent."),
		samplesIn:         counter("samples_in_total", "Samples in the profiles handed over."),
		profilesRecovered: counter("profiles_recovered_total", "Profiles of an earlier run that were in the spool at the start."),
		samplesRecovered:  counter("samples_recovered_total", "Samples in the profiles of an earlier run."),
		profilesSent:      counter("profiles_sent_total", "Profiles taken by a destination."),
		samplesSent:       counter("samples_sent_total", "Samples in the profiles taken."),
		profilesDropped:   counter("profiles_dropped_total", "Profiles given up, by reason.", "reason"),
		samplesDropped:    counter("samples_dropped_total", "Samples in the profiles given up, by reason.", "reason"),
		retries:           counter("retries_total", "Attempts that failed and are made again."),
		exemplarsDropped:  counter("exemplars_dropped_total", "Documents of exemplars refused by a destination that took their profile."),
		spoolFails:        counter("spool_errors_total", "Attempts to use the spool on disk that failed; what could not be written waits in memory."),
	}
	return m, errors.Join(errs...)
}

// destinationMetrics are the metrics of one destination.
type destinationMetrics struct {
	in, recovered, sent             count
	retries, exemplarsDropped       prometheus.Counter
	spoolFails                      prometheus.Counter
	profilesDropped, samplesDropped *prometheus.CounterVec // by reason
}

func (m *metrics) of(destination string) *destinationMetrics {
	l := prometheus.Labels{"destination": destination}
	return &destinationMetrics{
		in:               count{m.profilesIn.With(l), m.samplesIn.With(l)},
		recovered:        count{m.profilesRecovered.With(l), m.samplesRecovered.With(l)},
		sent:             count{m.profilesSent.With(l), m.samplesSent.With(l)},
		retries:          m.retries.With(l),
		exemplarsDropped: m.exemplarsDropped.With(l),
		spoolFails:       m.spoolFails.With(l),
		profilesDropped:  m.profilesDropped.MustCurryWith(l),
		samplesDropped:   m.samplesDropped.MustCurryWith(l),
	}
}

func (d *destinationMetrics) dropped(reason string) count {
	return count{d.profilesDropped.WithLabelValues(reason), d.samplesDropped.WithLabelValues(reason)}
}

// count counts profiles and their samples.
type count struct{ profiles, samples prometheus.Counter }

func (c count) add(samples int64) {
	c.profiles.Inc()
	c.samples.Add(float64(samples))
}

// observe shows what waits in a queue, and what is left off on the way from there.
func (m *metrics) observe(d Destination, q *queue) error {
	var errs []error
	destination := d.String()
	if s, ok := d.(Shortening); ok {
		cuts := func(what string, value func(reshape.Cuts) int) {
			errs = append(errs, m.registerer.Register(prometheus.NewCounterFunc(prometheus.CounterOpts{
				Name:        "fleetprof_uploader_cuts_total",
				Help:        "What was left off profiles because the destination has no room for it: labels, ends of their values, stacks of samples.",
				ConstLabels: prometheus.Labels{"destination": destination, "what": what},
			}, func() float64 { return float64(value(s.Cuts())) })))
		}
		cuts("label", func(c reshape.Cuts) int { return c.Labels })
		cuts("value", func(c reshape.Cuts) int { return c.Values })
		cuts("stack", func(c reshape.Cuts) int { return c.Stacks })
	}
	gauge := func(name, help string, value func(waiting) float64) {
		errs = append(errs, m.registerer.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "fleetprof_uploader_" + name, Help: help, ConstLabels: prometheus.Labels{"destination": destination},
		}, func() float64 { return value(q.waiting()) })))
	}
	gauge("waiting_profiles", "Profiles waiting to be sent, or being sent.", func(w waiting) float64 { return float64(w.profiles) })
	gauge("waiting_samples", "Samples in the profiles waiting.", func(w waiting) float64 { return float64(w.samples) })
	gauge("queue_bytes", "Bytes of profiles waiting in memory.", func(w waiting) float64 { return float64(w.memory) })
	gauge("spool_bytes", "Bytes of profiles waiting on disk.", func(w waiting) float64 { return float64(w.disk) })
	gauge("oldest_seconds", "How long the oldest profile has been waiting.", func(w waiting) float64 { return w.oldest.Seconds() })
	return errors.Join(errs...)
}
