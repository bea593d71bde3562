// SPDX-License-Identifier: Apache-2.0

package governor

import "github.com/prometheus/client_golang/prometheus"

// stats are the governor's metrics.
type stats struct {
	cost      *prometheus.GaugeVec
	changes   *prometheus.CounterVec
	budget    prometheus.Gauge
	frequency prometheus.Gauge
	exhausted prometheus.Gauge
	errors    prometheus.Counter
}

func newStats(reg prometheus.Registerer, sampling Sampling) *stats {
	const prefix = "fleetprof_governor_"
	gauge := func(name, help string) prometheus.GaugeOpts {
		return prometheus.GaugeOpts{Name: prefix + name, Help: help}
	}
	s := &stats{
		cost: prometheus.NewGaugeVec(gauge("cost_ratio",
			"Part of the host's CPU time that sampling took: this process in the last five seconds, without what docs/selection.md leaves out, its BPF programs in 200 ms of the last 15 seconds."), []string{"part"}),
		changes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: prefix + "changes_total", Help: "Changes of the frequency, by direction.",
		}, []string{"direction"}),
		budget:    prometheus.NewGauge(gauge("budget_ratio", "Part of the host's CPU time that sampling may take; 0 is no limit.")),
		frequency: prometheus.NewGauge(gauge("frequency_hertz", "Ticks per second and CPU that the budget leaves.")),
		exhausted: prometheus.NewGauge(gauge("exhausted", "1 while the budget is exceeded at the lowest frequency.")),
		errors: prometheus.NewCounter(prometheus.CounterOpts{
			Name: prefix + "errors_total", Help: "Rounds in which the cost could not be measured, or the frequency not be set.",
		}),
	}
	wanted := prometheus.NewGaugeFunc(gauge("wanted_hertz", "Ticks per second and CPU without the governor."),
		func() float64 { return float64(sampling.Wanted()) })
	s.frequency.Set(float64(sampling.Wanted()))
	reg.MustRegister(s.cost, s.changes, s.frequency, s.exhausted, s.errors, s.budget, wanted)
	return s
}
