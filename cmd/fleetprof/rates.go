// SPDX-License-Identifier: Apache-2.0

package main

import (
	"log/slog"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fleetprof/fleetprof/profiler"
	"github.com/fleetprof/fleetprof/profiler/governor"
)

// rates puts together what decides how often this host is sampled: the flag, and what
// the governor leaves of it. Safe for concurrent use.
type rates struct {
	*profiler.Profiler
	base int

	mu    sync.Mutex
	limit int
}

func newRates(p *profiler.Profiler, base int) *rates {
	return &rates{Profiler: p, base: base, limit: profiler.MaxFrequency}
}

// Wanted is the frequency of ticks without a limit.
func (r *rates) Wanted() int { return profiler.NewPlan(r.base, profiler.MaxFrequency).Frequency }

// Limit bounds the frequency of ticks.
func (r *rates) Limit(frequency int) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if frequency == r.limit {
		return nil
	}
	plan := profiler.NewPlan(r.base, frequency)
	if err := r.SetRates(profiler.Rates{Frequency: plan.Frequency, Usual: plan.Usual}); err != nil {
		return err
	}
	r.limit = frequency
	return nil
}

// newGovernor holds a budget, given in percent of the CPU time of the host; nil for 0.
func newGovernor(percent float64, r *rates, reg prometheus.Registerer, log *slog.Logger) *governor.Governor {
	if percent == 0 {
		return nil
	}
	return governor.New(governor.Options{
		Budget: percent / 100, CPUs: profiler.OnlineCPUs, Sampling: r, Logger: log, Registerer: reg,
	})
}

// validBudget checks --cpu-budget.
func validBudget(percent float64) error {
	if percent < 0 || percent > 100 {
		return badFlag("cpu-budget", "must be between 0 and 100")
	}
	return nil
}
