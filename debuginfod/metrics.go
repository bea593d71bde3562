// SPDX-License-Identifier: Apache-2.0

package debuginfod

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// Results of requests.
const (
	found      = "found"
	absent     = "absent"
	refused    = "refused"    // not the file that was asked for
	tooLarge   = "too_large"  // for the directory
	redirected = "redirected" // to a server that was not named
	failed     = "failed"     // the network, or the server
	unwritable = "unwritable" // the directory
)

func resultOf(err error) string {
	for _, r := range []struct {
		err    error
		result string
	}{{errDisk, unwritable}, {errAbsent, absent}, {errOther, refused}, {errTooLarge, tooLarge}, {errElsewhere, redirected}} {
		if errors.Is(err, r.err) {
			return r.result
		}
	}
	if err != nil {
		return failed
	}
	return found
}

// metrics counts what is asked for, and what is there.
type metrics struct {
	requests *prometheus.CounterVec
	evicted  prometheus.Counter
}

func newMetrics() *metrics {
	return &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fleetprof_debuginfod_requests_total",
			Help: "Debug files asked for at a debuginfod server, by what came of it.",
		}, []string{"result"}),
		evicted: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "fleetprof_debuginfod_evicted_total",
			Help: "Fetched debug files removed to make room for others.",
		}),
	}
}

func (m *metrics) register(r prometheus.Registerer, c *Client) error {
	for _, collector := range []prometheus.Collector{
		m.requests, m.evicted,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "fleetprof_debuginfod_bytes",
			Help: "Bytes of fetched debug files on disk.",
		}, func() float64 { n, _ := c.cache.usage(); return float64(n) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "fleetprof_debuginfod_files",
			Help: "Fetched debug files on disk.",
		}, func() float64 { _, n := c.cache.usage(); return float64(n) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "fleetprof_debuginfod_waiting",
			Help: "Debug files to be asked for.",
		}, func() float64 { return float64(len(c.queue)) }),
	} {
		if err := r.Register(collector); err != nil {
			return fmt.Errorf("register debuginfod metrics: %w", err)
		}
	}
	return nil
}
