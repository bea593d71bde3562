// SPDX-License-Identifier: Apache-2.0

// Package relabel lets an operator decide which processes are collected and what
// labels their samples carry, by rules with the meaning of Prometheus'
// relabel_configs, and by Prometheus' own implementation of them.
// https://prometheus.io/docs/prometheus/latest/configuration/configuration/#relabel_config
//
// Rules see the labels that the samples of a process would carry, each of them a
// second time with __meta_ before its name, and some that are for rules only. What
// they leave is what the samples carry, but for names that begin with two
// underscores. What differs between samples of one process ([sample.OfSample]) they
// neither see nor make: they are asked once for a process, not for a sample.
//
// What bites: values come from the processes themselves (names of files, of cgroups),
// so what they may add is bounded, see maxValueBytes.
package relabel

import (
	"container/list"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/prometheus/model/labels"
	prom "github.com/prometheus/prometheus/model/relabel"

	"github.com/fleetprof/fleetprof/sample"
)

// The labels that are for rules only.
const (
	metaPrefix = "__meta_"
	// metaPath is the path of the executable as the process sees it.
	metaPath = "__meta_process_executable_path"
	// metaCgroup is the path of the process's cgroup, from the root of its hierarchy.
	metaCgroup = "__meta_process_cgroup"
)

// Options are what a Relabeler needs; all fields must be set.
type Options struct {
	// Host is the host_name that samples carry where no rule says otherwise.
	Host string
	// Cgroup gives the path of a cgroup, "" if it cannot be told. The process was seen
	// in it.
	Cgroup     func(id uint64, pid uint32) string
	Registerer prometheus.Registerer
	// CacheSize bounds how many decisions are remembered, at some 1,100 bytes each, and
	// what the rules make.
	CacheSize int
}

// Process is whom a decision is about, and all that it can depend on: with any change
// of it the rules are asked again.
type Process struct {
	sample.Process
	CgroupID uint64
	// Labels are what its samples would carry. Those of single samples must be empty.
	Labels sample.Labels
}

// Decision is what rules say about a process.
type Decision struct {
	// Keep is false if the process shall not be collected.
	Keep bool
	// Labels are what its samples carry; those of single samples are empty.
	Labels sample.Labels
}

// Relabeler asks the rules, and remembers what they said about the processes last
// seen. It is safe for concurrent use.
type Relabeler struct {
	host    string
	cgroup  func(id uint64, pid uint32) string
	metrics metrics

	mu      sync.Mutex
	rules   Rules
	size    int
	known   map[Process]*list.Element
	recency list.List // of *decided, the most recently used first
}

type decided struct {
	process  Process
	decision Decision
}

type metrics struct{ keep, drop, tooLong, invalid prometheus.Counter }

func newMetrics(r prometheus.Registerer) metrics {
	decisions := promauto.With(r).NewCounterVec(prometheus.CounterOpts{
		Name: "fleetprof_relabel_decisions_total",
		Help: "Times that relabelling rules were asked about a process, by what they said.",
	}, []string{"result"})
	leftOut := promauto.With(r).NewCounterVec(prometheus.CounterOpts{
		Name: "fleetprof_relabel_labels_left_out_total",
		Help: "Labels that relabelling rules made but samples cannot carry, by the reason.",
	}, []string{"reason"})
	return metrics{
		keep:    decisions.WithLabelValues("keep"),
		drop:    decisions.WithLabelValues("drop"),
		tooLong: leftOut.WithLabelValues("too_long"),
		invalid: leftOut.WithLabelValues("invalid_name"),
	}
}

// New returns a Relabeler without rules: it keeps every process as it is.
func New(o Options) *Relabeler {
	return &Relabeler{
		host: o.Host, cgroup: o.Cgroup, metrics: newMetrics(o.Registerer), size: o.CacheSize,
		known: make(map[Process]*list.Element),
	}
}

// Use takes other rules. Whatever was decided is decided anew.
func (r *Relabeler) Use(rules Rules) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rules = rules
	clear(r.known)
	r.recency.Init()
}

// HasRules reports whether there are any.
func (r *Relabeler) HasRules() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.rules.configs) > 0
}

// Decide says whether a process is collected, and with which labels.
func (r *Relabeler) Decide(p Process) Decision {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.rules.configs) == 0 {
		return Decision{Keep: true, Labels: p.Labels}
	}
	if element := r.known[p]; element != nil {
		r.recency.MoveToFront(element)
		return element.Value.(*decided).decision
	}
	d := r.ask(p)
	r.known[p] = r.recency.PushFront(&decided{p, d})
	if len(r.known) > r.size {
		delete(r.known, r.recency.Remove(r.recency.Back()).(*decided).process)
	}
	return d
}

// ask applies the rules.
func (r *Relabeler) ask(p Process) Decision {
	builder := labels.NewBuilder(labels.EmptyLabels())
	set := func(name, value string) {
		builder.Set(name, value)
		builder.Set(metaPrefix+name, value)
	}
	set(sample.LabelHost, r.host)
	p.Labels.Each(set)
	builder.Set(metaPath, p.Path)
	builder.Set(metaCgroup, r.cgroup(p.CgroupID, p.PID))
	if !prom.ProcessBuilder(builder, r.rules.configs...) {
		r.metrics.drop.Inc()
		return Decision{}
	}
	r.metrics.keep.Inc()
	return Decision{Keep: true, Labels: r.carried(builder.Labels())}
}
