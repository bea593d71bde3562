// SPDX-License-Identifier: Apache-2.0

package access

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// What became of a request.
const (
	resultGranted   = "granted"
	resultAnonymous = "anonymous" // nothing was shown
	resultUnknown   = "unknown"
	resultForbidden = "forbidden"
	resultThrottled = "throttled"
	resultBusy      = "busy"
)

type metrics struct {
	requests                        *prometheus.CounterVec // by result
	unreported, forgotten           prometheus.Counter
	successful, successTime, expiry prometheus.Gauge
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "fleetprof_access_" + name, Help: help})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: "fleetprof_access_" + name, Help: help})
	}
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fleetprof_access_requests_total", Help: "Requests that needed a role, by result.",
		}, []string{"result"}),
		unreported:  counter("unreported_total", "Refused requests that were not logged because there were too many."),
		forgotten:   counter("addresses_forgotten_total", "Addresses whose wrong attempts were forgotten because there were too many."),
		successful:  gauge("last_reload_successful", "Whether the users and certificates were right when they were last read."),
		successTime: gauge("last_reload_success_timestamp_seconds", "When right users and certificates were last read."),
		expiry:      gauge("certificate_expiry_timestamp_seconds", "When this server's own certificate ends; 0 without TLS."),
	}
	for _, result := range []string{resultGranted, resultAnonymous, resultUnknown, resultForbidden, resultThrottled, resultBusy} {
		m.requests.WithLabelValues(result)
	}
	var errs []error
	for _, c := range []prometheus.Collector{m.requests, m.unreported, m.forgotten, m.successful, m.successTime, m.expiry} {
		errs = append(errs, r.Register(c))
	}
	return m, errors.Join(errs...)
}

func (m *metrics) reloaded(ok bool, c *certificates) {
	if !ok {
		m.successful.Set(0)
		return
	}
	m.successful.Set(1)
	m.successTime.SetToCurrentTime()
	if c != nil {
		m.expiry.Set(float64(c.expiry.Unix()))
	}
}
