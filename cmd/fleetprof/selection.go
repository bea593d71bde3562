// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"log/slog"
	"math"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"

	"github.com/fleetprof/fleetprof/attribute/relabel"
	"github.com/fleetprof/fleetprof/policy"
	"github.com/fleetprof/fleetprof/policy/remote"
	"github.com/fleetprof/fleetprof/profiler"
	"github.com/fleetprof/fleetprof/profiler/governor"
	"github.com/fleetprof/fleetprof/sample"
)

// selection decides how often each process of this host is sampled: by the flag, by
// relabelling rules and by the policy, within what the governor leaves. Safe for concurrent
// use.
type selection struct {
	*profiler.Profiler
	workloads *workloads
	relabel   *relabel.Relabeler
	policy    *remote.Follower // nil if none is obeyed; set before Run
	requests  *requests        // nil if nobody asks for them; set before Run
	host      string
	base      atomic.Int64 // frequency
	log       *slog.Logger
	again     chan struct{}

	mu    sync.Mutex
	limit int // frequency

	matched struct {
		sync.Mutex
		rule map[uint32]int // of the policy, by the PID it decided about
	}
}

// maxMatched bounds the processes that are counted by the rule that decides about them.
const maxMatched = 1 << 16

func newSelection(p *profiler.Profiler, w *workloads, r *relabel.Relabeler, host string, base int, log *slog.Logger) *selection {
	s := &selection{
		Profiler: p, workloads: w, relabel: r, host: host, log: log,
		again: make(chan struct{}, 1), limit: profiler.MaxFrequency,
	}
	s.matched.rule = make(map[uint32]int)
	s.base.Store(int64(base))
	return s
}

// setFrequency changes how often processes are sampled of which nothing else is said.
func (s *selection) setFrequency(base int) {
	s.base.Store(int64(base))
	s.changed()
}

// changed says that other rules are in force.
func (s *selection) changed() {
	select {
	case s.again <- struct{}{}:
	default: // Run has not come to it yet
	}
}

// Run has what rules say obeyed until ctx ends.
func (s *selection) Run(ctx context.Context) {
	var following sync.WaitGroup
	defer following.Wait()
	if s.policy != nil {
		following.Go(func() { _ = s.policy.Run(ctx) }) // it returns nil
	}
	for {
		var changed <-chan struct{} // never, without a policy
		if s.policy != nil {
			changed = s.policy.Changed()
		}
		s.mu.Lock()
		if err := s.apply(); err != nil {
			s.log.Error("what is sampled stays as it is", "error", err)
		}
		s.mu.Unlock()
		if s.requests != nil {
			s.Between(s.requests.engine.Reconsider)
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-s.again:
		case <-s.workloads.owners.Late():
		}
	}
}

// plan is how often ticks come, and what they stand for.
func (s *selection) plan(limit int) (plan profiler.Plan, weights map[int]uint32, rules int) {
	var frequencies []int
	if s.policy != nil {
		rules, frequencies = s.policy.Rules()
	}
	rates := make([]float64, len(frequencies))
	for i, f := range frequencies {
		rates[i] = float64(f)
	}
	plan = profiler.NewPlan(int(s.base.Load()), limit, rates...)
	weights = make(map[int]uint32, len(frequencies))
	for i, f := range frequencies {
		weights[f] = plan.Weights[i]
	}
	return plan, weights, rules
}

// hasRules tells whether any process may be told from others.
func (s *selection) hasRules() bool {
	rules := 0
	if s.policy != nil {
		rules, _ = s.policy.Rules()
	}
	return rules > 0 || s.relabel.HasRules()
}

// Wanted is the frequency of ticks without a limit.
func (s *selection) Wanted() int {
	plan, _, _ := s.plan(profiler.MaxFrequency)
	return plan.Frequency
}

// Limit bounds the frequency of ticks.
func (s *selection) Limit(frequency int) error {
	frequency = min(frequency, profiler.MaxFrequency)
	s.mu.Lock()
	defer s.mu.Unlock()
	if frequency == s.limit {
		return nil
	}
	s.limit = frequency
	return s.apply()
}

// apply has everything decided anew. The caller holds mu.
func (s *selection) apply() error {
	s.matched.Lock()
	clear(s.matched.rule)
	s.matched.Unlock()
	plan, weights, rules := s.plan(s.limit)
	r := profiler.Rates{Frequency: plan.Frequency, Usual: plan.Usual}
	if rules > 0 || s.relabel.HasRules() {
		r.Weigh = func(p sample.Process, cgroupID uint64) (weight uint32, final bool) {
			return s.weigh(p, cgroupID, plan.Usual, weights)
		}
	}
	return s.SetRates(r)
}

// weigh decides about a process, given the usual weight and those of frequencies.
func (s *selection) weigh(p sample.Process, cgroupID uint64, usual uint32, weights map[int]uint32) (weight uint32, final bool) {
	labels, final := s.workloads.complete(s.workloads.meet(p, cgroupID))
	d := s.relabel.Decide(relabel.Process{Process: p, CgroupID: cgroupID, Labels: labels})
	if !d.Keep {
		return 0, final
	}
	decision := s.decide(d.Labels)
	s.match(p.PID, decision.Rule)
	switch w, planned := weights[decision.Frequency]; {
	case decision.Off:
		return 0, final
	case planned:
		return w, final
	}
	return uint32(min(uint64(usual)*uint64(decision.KeepOneIn), math.MaxUint32)), final
}

// decide asks the policy about a process with certain labels.
func (s *selection) decide(l sample.Labels) policy.Decision {
	if s.policy == nil {
		return policy.Decision{KeepOneIn: 1}
	}
	return s.policy.Decide(func(name string) string {
		if name == sample.LabelHost && !l.NoHost && l.More.Get(name) == "" {
			return s.host
		}
		return l.Get(name)
	})
}

// match notes which rule decided about a process.
func (s *selection) match(pid uint32, rule int) {
	s.matched.Lock()
	defer s.matched.Unlock()
	if rule == 0 {
		delete(s.matched.rule, pid)
	} else if len(s.matched.rule) < maxMatched {
		s.matched.rule[pid] = rule
	}
}

// matching is how many processes that live each rule has decided about.
func (s *selection) matching() map[int]int {
	s.matched.Lock()
	defer s.matched.Unlock()
	counts := make(map[int]int)
	for pid, rule := range s.matched.rule {
		if unix.Kill(int(pid), 0) == unix.ESRCH {
			delete(s.matched.rule, pid)
		} else {
			counts[rule]++
		}
	}
	return counts
}

// handler answers what is collected, and by which rules.
func (s *selection) handler() http.Handler {
	if s.policy == nil {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "this agent obeys no policy: name a server that keeps one with --policy-from, or a file with --policy", http.StatusNotFound)
		})
	}
	return s.policy.Handler(s.matching)
}

// newGovernor holds a budget, given in percent of the CPU time of the host; 0 is no limit.
func newGovernor(percent float64, s *selection, reg prometheus.Registerer, log *slog.Logger) *governor.Governor {
	return governor.New(governor.Options{
		Budget: percent / 100, CPUs: profiler.OnlineCPUs, Sampling: s, Logger: log, Registerer: reg,
	})
}

// validBudget checks --cpu-budget.
func validBudget(percent float64) error {
	if percent < 0 || percent > 100 {
		return badFlag("cpu-budget", "must be between 0 and 100")
	}
	return nil
}
