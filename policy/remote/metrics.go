// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fleetprof/fleetprof/policy"
)

type metrics struct {
	changes     prometheus.Counter
	errors      *prometheus.CounterVec // by reason
	storeErrors *prometheus.CounterVec // by reason
	pulled      prometheus.Gauge
}

func newMetrics(r prometheus.Registerer, f *Follower) (*metrics, error) {
	m := &metrics{
		changes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "fleetprof_policy_changes_total", Help: "Times that another policy was in force, or that a rule expired.",
		}),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fleetprof_policy_pull_errors_total", Help: "Attempts to get the policy that failed, by reason; the last good one stays in force.",
		}, []string{"reason"}),
		storeErrors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fleetprof_policy_store_errors_total", Help: "Times that the policy could not be kept for the next run, or that of the last run not be used, by reason.",
		}, []string{"reason"}),
		pulled: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "fleetprof_policy_pulled_timestamp_seconds", Help: "When the source last gave a good answer, by this host's clock.",
		}),
	}
	rules := func(state string) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "fleetprof_policy_rules", Help: "Rules of the policy in force, by state.",
			ConstLabels: prometheus.Labels{"state": state},
		}, func() float64 { return float64(f.count(state)) })
	}
	var errs []error
	for _, c := range []prometheus.Collector{
		m.changes, m.errors, m.storeErrors, m.pulled, rules(inForce), rules(expired),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "fleetprof_policy_version", Help: "Version of the policy in force; 0 is none.",
		}, func() float64 { return float64(f.state.Load().policy.Version) }),
	} {
		errs = append(errs, r.Register(c))
	}
	return m, errors.Join(errs...)
}

// count is how many rules are in a state.
func (f *Follower) count(state string) int {
	s := f.state.Load()
	live := len(s.policy.Live(s.clock.now()).Rules)
	if state == expired {
		return len(s.policy.Rules) - live
	}
	return live
}

// reason is the name of an error in the metrics.
func reason(err error) string {
	var refusal *Refusal
	var faults policy.Faults
	switch {
	case errors.Is(err, errInvalid), errors.As(err, &faults):
		return "invalid"
	case errors.As(err, &refusal):
		return "refused"
	}
	return "unreachable"
}
