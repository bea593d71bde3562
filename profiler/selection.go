// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fleetprof/fleetprof/sample"
)

// selection tells the kernel side how many ticks of each process one sample stands for.
// Only those are told of that have not the usual weight. Not safe for concurrent use.
type selection struct {
	kernel weightMap
	rates  Rates
	log    *slog.Logger
	byPID  map[uint32]decision
	// told are the processes that the kernel side knows of; weighing says that it
	// looks for them.
	told     map[uint32]bool
	weighing bool

	excluded, refused prometheus.Counter
	decided           prometheus.Gauge
}

// weightMap is the kernel side of it.
type weightMap interface {
	SetWeight(pid uint32, execID uint64, ticks uint32) error
	DeleteWeight(pid uint32) error
	SetUsualWeight(ticks uint32, weighing bool) error
}

// settling is how long after its first tick the weight of a process is final at the latest,
// in nanoseconds: what is not known of it by then may never be.
const settling = 3e9

// decision is the weight of a process while it executes one program in one cgroup.
type decision struct {
	process sample.Process
	cgroup  uint64
	execID  uint64
	first   uint64 // the time of the first tick
	weight  uint32
	final   bool
}

func newSelection(kernel weightMap, rates Rates, log *slog.Logger, reg prometheus.Registerer) *selection {
	counter, gauge := registering(reg, "fleetprof_selection_")
	s := &selection{
		kernel: kernel, log: log, byPID: make(map[uint32]decision), told: make(map[uint32]bool),
		excluded: counter("excluded_samples_total", "Samples dropped here because their process is not to be sampled, from before the kernel side knew."),
		refused:  counter("refused_total", "Weights of processes that the kernel side had no room for: they keep the usual weight."),
		decided:  gauge("processes", "Processes with a weight of their own on the kernel side."),
	}
	s.change(rates)
	return s
}

// change decides about all processes anew.
func (s *selection) change(r Rates) {
	s.rates = r
	for pid := range s.told {
		s.untell(pid)
	}
	s.publish()
	for pid, d := range s.byPID {
		if r.Weigh == nil {
			delete(s.byPID, pid)
			continue
		}
		s.decide(pid, d, d.first)
	}
}

// decide asks for the weight of a process, at the time of a tick, and tells it. A process is
// not excluded before that is final: its samples can be dropped later, but not be had again.
func (s *selection) decide(pid uint32, d decision, now uint64) decision {
	d.weight, d.final = s.rates.Weigh(d.process, d.cgroup)
	d.final = d.final || now-d.first > settling
	if d.weight == 0 && !d.final {
		d.weight = s.rates.usual()
	}
	s.byPID[pid] = d
	s.tell(pid, d)
	return d
}

// admit decides about the process of a tick, which is nil for a kernel thread and for
// one that is not known. It says whether the tick is to become a sample.
func (s *selection) admit(t *tick, proc *process) bool {
	if s.rates.Weigh == nil || !t.KernelThread && (proc == nil || !proc.named) {
		return true // of an unnamed one, which is in execve(2), the next tick will tell
	}
	d, ok := s.byPID[t.PID]
	if !ok || d.execID != t.space.execID || d.cgroup != t.CgroupID {
		d = decision{process: sample.Process{PID: t.PID}, cgroup: t.CgroupID, execID: t.space.execID, first: t.Time}
		if proc != nil {
			d.process.Executable, d.process.Path, d.process.Execution = proc.executable, proc.path, proc.execution
		}
		d = s.decide(t.PID, d, t.Time)
	} else if !d.final {
		d = s.decide(t.PID, d, t.Time)
	}
	if d.weight == 0 {
		s.excluded.Inc()
		return false
	}
	return true
}

// tell gives the kernel side the weight of a process.
func (s *selection) tell(pid uint32, d decision) {
	if d.weight == s.rates.usual() {
		s.untell(pid)
		return
	}
	if err := s.kernel.SetWeight(pid, d.execID, d.weight); err != nil {
		s.refused.Inc()
		s.log.Debug("process keeps the usual weight", "pid", pid, "error", err)
		return
	}
	s.told[pid] = true
	s.decided.Set(float64(len(s.told)))
	if !s.weighing {
		s.publish()
	}
}

func (s *selection) untell(pid uint32) {
	if !s.told[pid] {
		return
	}
	delete(s.told, pid)
	s.decided.Set(float64(len(s.told)))
	if err := s.kernel.DeleteWeight(pid); err != nil {
		s.log.Error("process keeps its weight", "pid", pid, "error", err)
	}
}

// publish tells the kernel side the usual weight, and whether there is any other.
func (s *selection) publish() {
	s.weighing = len(s.told) > 0
	if err := s.kernel.SetUsualWeight(s.rates.usual(), s.weighing); err != nil {
		s.log.Error("usual weight not set", "error", err)
	}
}

// forget makes a process, or whoever has its number next, one that nothing was decided
// about.
func (s *selection) forget(pid uint32) {
	delete(s.byPID, pid)
	s.untell(pid)
}

// forgetAll does so for all processes: events were lost, so that their numbers may be
// those of others by now.
func (s *selection) forgetAll() {
	for pid := range s.byPID {
		s.forget(pid)
	}
}
