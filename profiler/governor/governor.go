// SPDX-License-Identifier: Apache-2.0

// Package governor keeps the profiler within a budget of CPU time: it measures what
// this process and its BPF programs cost, and lowers the frequency of sampling while
// that is too much. docs/selection.md has its law.
package governor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"

	"github.com/fleetprof/fleetprof/internal/cputime"
)

const (
	// interval is that of the rounds. Two of them are the window of a profile, so that
	// what encoding it costs is in every two.
	interval = 5 * time.Second
	// span is for how long of an interval the run time of BPF programs is measured. What
	// it is in the rest is taken to be the same.
	span = 200 * time.Millisecond
	// kernelEvery is in how many rounds it is measured once, and in each that follows one in which
	// the frequency changed: to switch the kernel's clocks of BPF programs on and off, code of the
	// kernel is patched on all CPUs, which took 30 ms of CPU time on a paravirtualized machine.
	kernelEvery = 3
	// warmUp is how long a start takes, in which tables of all that runs are read once. It is
	// no measure of what comes.
	warmUp = 5 * time.Second
)

// NoLimit is more than any frequency.
const NoLimit = math.MaxInt

// Sampling is what is governed. Its methods are called from Run's goroutine.
type Sampling interface {
	// Wanted is the frequency without the governor, in ticks per second and CPU.
	Wanted() int
	// Limit bounds the frequency to what is left of it; NoLimit takes that away.
	Limit(frequency int) error
	// KernelShare measures for so long how many CPUs the BPF programs keep busy.
	KernelShare(ctx context.Context, span time.Duration) (float64, error)
}

// Options are what a Governor needs; all must be set.
type Options struct {
	// Budget is the part of all CPUs' time that may be used, 0.01 for 1 %; 0 is no limit.
	Budget float64
	// CPUs is how many there are at the moment.
	CPUs       func() (int, error)
	Sampling   Sampling
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Governor is one at work. Run may be called once.
type Governor struct {
	opts   Options
	others []*cputime.Meter
	budget atomic.Uint64 // math.Float64bits
	law    *law
	stats  *stats
	// At the last round: when it was, and the CPU time of sampling until then.
	at   time.Time
	used time.Duration
	// kernel is how many CPUs the BPF programs kept busy when that was measured, which is to be done
	// again in so many rounds.
	kernel      float64
	kernelAgain int
	// unmeasured and exhausted say that this was logged already.
	unmeasured, exhausted bool
}

// New returns a Governor that has measured nothing yet.
func New(o Options) *Governor {
	g := &Governor{opts: o, law: newLaw(o.Budget, o.Sampling.Wanted()), stats: newStats(o.Registerer, o.Sampling)}
	g.SetBudget(o.Budget)
	return g
}

// Exclude takes what a meter counts for no cost of sampling. It must be called before Run.
func (g *Governor) Exclude(m *cputime.Meter) { g.others = append(g.others, m) }

// SetBudget changes the budget, from the next round on. It may be called at any time.
func (g *Governor) SetBudget(budget float64) {
	g.budget.Store(math.Float64bits(budget))
	g.stats.budget.Set(budget)
}

// Run governs until ctx ends.
func (g *Governor) Run(ctx context.Context) error {
	select {
	case <-time.After(warmUp):
	case <-ctx.Done():
		return nil
	}
	var err error
	g.at = time.Now()
	if g.used, err = g.cost(); err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(interval - span):
		}
		if err := g.round(ctx); err != nil && ctx.Err() == nil {
			g.stats.errors.Inc()
			g.opts.Logger.Error("cost of sampling is not governed", "error", err)
		}
	}
}

// round measures the cost and acts on it.
func (g *Governor) round(ctx context.Context) error {
	g.law.setBudget(math.Float64frombits(g.budget.Load()), g.opts.Sampling.Wanted())
	if g.law.budget == 0 {
		return g.rest()
	}
	cpus, err := g.opts.CPUs()
	if err != nil {
		return err
	}
	process, kernel, err := g.measure(ctx)
	if err != nil {
		return err
	}
	process, kernel = process/float64(cpus), kernel/float64(cpus)
	g.stats.cost.WithLabelValues("process").Set(process)
	g.stats.cost.WithLabelValues("bpf").Set(kernel)
	before := g.law.frequency
	after := g.law.observe(process+kernel, g.opts.Sampling.Wanted())
	limit := after
	if g.law.free {
		limit = NoLimit // what is wanted next need not wait for a round
	}
	if err := g.opts.Sampling.Limit(limit); err != nil {
		return fmt.Errorf("limit sampling to %d Hz: %w", after, err)
	}
	if after != before {
		g.kernelAgain = 0
	}
	g.report(before, after, process+kernel)
	return nil
}

// rest is a round without a budget: there is no limit, and no cost is measured.
func (g *Governor) rest() (err error) {
	g.stats.cost.Reset()
	g.stats.exhausted.Set(0)
	g.exhausted = false
	g.stats.frequency.Set(float64(g.law.frequency))
	if err := g.opts.Sampling.Limit(NoLimit); err != nil {
		return fmt.Errorf("lift the limit of sampling: %w", err)
	}
	g.at = time.Now()
	g.used, err = g.cost()
	return err
}

// measure tells how many CPUs this process kept busy since the last round, and how many
// its BPF programs do.
func (g *Governor) measure(ctx context.Context) (process, kernel float64, err error) {
	if err := g.measureKernel(ctx); err != nil {
		return 0, 0, err
	}
	used, err := g.cost()
	if err != nil {
		return 0, 0, err
	}
	now := time.Now()
	process = (used - g.used).Seconds() / now.Sub(g.at).Seconds()
	g.at, g.used = now, used
	return process, g.kernel, nil
}

// measureKernel measures the BPF programs if it is time to, or waits for as long. Nobody is told of them
// without CAP_SYS_ADMIN: it is 0 then.
func (g *Governor) measureKernel(ctx context.Context) (err error) {
	if g.kernelAgain > 0 {
		g.kernelAgain--
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(span):
			return nil
		}
	}
	g.kernel, err = g.opts.Sampling.KernelShare(ctx, span)
	if errors.Is(err, unix.EPERM) {
		if !g.unmeasured {
			g.opts.Logger.Warn("the CPU budget leaves out the time of BPF programs", "error", err)
		}
		g.unmeasured = true
		g.kernel, err = 0, nil
	}
	if err == nil {
		g.kernelAgain = kernelEvery - 1
	}
	return err
}

// cost is the CPU time that this process has used, without what is excluded.
func (g *Governor) cost() (time.Duration, error) {
	others := time.Duration(0)
	for _, m := range g.others {
		others += m.Spent()
	}
	used, err := cputime.Process() // later, so that it is no less
	return used - others, err
}

// report tells of a change, and of a cost that no change can lower.
func (g *Governor) report(before, after int, cost float64) {
	log := g.opts.Logger.With("cost_percent", percent(cost), "budget_percent", percent(g.law.budget))
	switch {
	case after < before:
		g.stats.changes.WithLabelValues("down").Inc()
		log.Warn("sampling less often", "from_hz", before, "to_hz", after, "wanted_hz", g.opts.Sampling.Wanted())
	case after > before:
		g.stats.changes.WithLabelValues("up").Inc()
		log.Info("sampling more often", "from_hz", before, "to_hz", after, "wanted_hz", g.opts.Sampling.Wanted())
	}
	exhausted := g.law.exhausted()
	if exhausted && !g.exhausted {
		log.Warn("the CPU budget is exceeded at the lowest frequency")
	}
	g.exhausted = exhausted
	g.stats.exhausted.Set(0)
	if exhausted {
		g.stats.exhausted.Set(1)
	}
	g.stats.frequency.Set(float64(after))
}

// percent rounds for a log.
func percent(share float64) float64 { return float64(int(share*1e4+0.5)) / 100 }
