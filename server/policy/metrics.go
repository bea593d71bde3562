// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// What became of a request.
const (
	resultOK        = "ok"
	resultUnchanged = "unchanged"
	resultInvalid   = "invalid"
	resultConflict  = "conflict"
	resultCutOff    = "cut_off"
	resultBusy      = "busy"
	resultFailed    = "failed"
)

type metrics struct {
	requests  *prometheus.CounterVec // by endpoint and result
	untrimmed prometheus.Counter
	waiting   atomic.Int64
}

func newMetrics(r prometheus.Registerer, k *Keeper) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fleetprof_policy_server_requests_total", Help: "Requests for the policy and to change it, by endpoint and result.",
		}, []string{"endpoint", "result"}),
		untrimmed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "fleetprof_policy_server_trim_errors_total", Help: "Changes after which old versions could not be removed from the disk.",
		}),
	}
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "fleetprof_policy_server_" + name, Help: help}, value)
	}
	var errs []error
	for _, c := range []prometheus.Collector{
		m.requests, m.untrimmed,
		gauge("version", "Version of the policy that this server gives out.", func() float64 {
			return float64(k.Current().Policy.Version)
		}),
		gauge("rules", "Rules of it that have not expired.", func() float64 {
			return float64(len(k.Current().Policy.Live(time.Now()).Rules))
		}),
		gauge("waiting", "Long polls that wait for a change.", func() float64 { return float64(m.waiting.Load()) }),
	} {
		errs = append(errs, r.Register(c))
	}
	return m, errors.Join(errs...)
}
