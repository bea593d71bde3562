// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fleetprof/fleetprof/attribute/relabel"
	"github.com/fleetprof/fleetprof/attribute/rpc"
	"github.com/fleetprof/fleetprof/cmd/fleetprof/config"
	"github.com/fleetprof/fleetprof/sample"
)

// decisionsRemembered is more than the processes that are seen executing within
// minutes on most hosts; for others rules are asked more often.
const decisionsRemembered = 4096

// newRelabeler makes the pipeline's, which has no rules yet.
func (p *pipeline) newRelabeler(host string, reg prometheus.Registerer) {
	p.dropped = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "fleetprof_window_excluded_samples_total",
		Help: "Samples left out when their window was cut, because relabelling rules or the policy exclude their process. Once that is known such processes are not sampled at all.",
	})
	reg.MustRegister(p.dropped)
	p.relabel = relabel.New(relabel.Options{Host: host, Cgroup: p.cgroupPath, Registerer: reg, CacheSize: decisionsRemembered})
}

// use puts what can change while the pipeline runs in force.
func (p *pipeline) use(f *config.File) {
	p.relabel.Use(f.Rules)
	p.selection.changed()
}

// origins are the processes that samples of a window came from, by their execution: what
// rules see of them and samples do not carry.
type origins map[uint64]origin

type origin struct {
	path     string
	cgroupID uint64
}

// maxOrigins bounds the executions that are remembered: more than have lines in a window.
const maxOrigins = 1 << 16

func (o origins) note(s *sample.Sample) {
	if _, known := o[s.Process.Execution]; known || len(o) < maxOrigins {
		o[s.Process.Execution] = origin{s.Process.Path, s.CgroupID}
	}
}

// process is that of labels which were not completed yet.
func (o origins) process(l sample.Labels) sample.Process {
	pid, err := strconv.ParseUint(l.PID, 10, 32)
	if err != nil {
		panic(err) // workloads.meet has written it
	}
	return sample.Process{PID: uint32(pid), Executable: l.Executable, Path: o[l.Execution].path, Execution: l.Execution}
}

// final gives labels what was learned since their sample came, and what rules make of that.
// keep is false if the sample is not wanted; known says that no more will be learned.
func (p *pipeline) final(l sample.Labels, from origins) (labels sample.Labels, keep, known bool) {
	if l.PID == "" {
		return l, true, true // lost, or folded: nobody knows what it was
	}
	process, cgroupID := from.process(l), from[l.Execution].cgroupID
	thread, handler := l.Thread, l.Handler
	l.Thread, l.Handler = "", sample.Handler{}
	l, known = p.workloads.complete(l)
	d := p.relabel.Decide(relabel.Process{Process: process, CgroupID: cgroupID, Labels: l})
	if !d.Keep {
		return l, false, known
	}
	d.Labels.Thread, d.Labels.Handler = thread, handler
	if p.selection.decide(d.Labels).Off {
		return l, false, known
	}
	return d.Labels, p.keep == nil || p.keep(process.PID, d.Labels), known
}

// identify says what the requests of a process count as: what its samples do. Where rules
// may exclude it, that is not decided before all is known, or nothing more is waited for.
func (p *pipeline) identify(process sample.Process, settled bool) rpc.Identity {
	l, cgroupID, known := p.workloads.living(process)
	d := p.relabel.Decide(relabel.Process{Process: process, CgroupID: cgroupID, Labels: l})
	keep := d.Keep && !p.selection.decide(d.Labels).Off
	if p.selection.hasRules() && !known && !settled {
		keep = false
	}
	return rpc.Identity{Service: d.Labels.Service, Keep: keep, Final: known}
}

// cgroupPath is the path of a cgroup, for rules.
func (p *pipeline) cgroupPath(id uint64, pid uint32) string {
	if p.workloads.places == nil {
		return ""
	}
	return p.workloads.places.Path(id, pid)
}
