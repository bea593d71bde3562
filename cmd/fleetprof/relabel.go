// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/fleetprof/fleetprof/attribute/relabel"
	"github.com/fleetprof/fleetprof/cmd/fleetprof/config"
	"github.com/fleetprof/fleetprof/sample"
)

// decisionsRemembered is more than the processes that are seen executing within
// minutes on most hosts; for others rules are asked more often.
const decisionsRemembered = 4096

// newRelabeler makes the pipeline's, which has no rules yet.
func (p *pipeline) newRelabeler(host string, reg prometheus.Registerer) {
	p.dropped = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "fleetprof_relabel_dropped_samples_total",
		Help: "Samples of processes that relabelling rules drop; they are in no profile.",
	})
	reg.MustRegister(p.dropped)
	p.relabel = relabel.New(relabel.Options{Host: host, Cgroup: p.cgroupPath, Registerer: reg, CacheSize: decisionsRemembered})
}

// use puts what can change while the pipeline runs in force.
func (p *pipeline) use(f *config.File) { p.relabel.Use(f.Rules) }

// relabelled asks the rules about the process of a sample, with the labels that it
// would carry. This is the place to learn that a process need not be sampled at all.
func (p *pipeline) relabelled(s *sample.Sample, labels sample.Labels) (_ sample.Labels, keep bool) {
	d := p.relabel.Decide(relabel.Process{
		PID: s.Process.PID, Began: s.Process.Began, Path: s.Process.Path, CgroupID: s.CgroupID, Labels: labels,
	})
	return d.Labels, d.Keep
}

// cgroupPath is the path of a cgroup, for rules.
func (p *pipeline) cgroupPath(id uint64, pid uint32) string {
	if p.containers == nil {
		return ""
	}
	return p.containers.Path(id, pid)
}
