// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/fleetprof/fleetprof/bpf"
)

// stats are the room's metrics: what came in, what went out, what was lost.
type stats struct {
	samples, badRecords            prometheus.Counter
	events, lostEvents             prometheus.Counter
	mapsErrors, fileErrors         prometheus.Counter
	unknownAddresses, cpuErrors    prometheus.Counter
	unfollowed                     prometheus.Counter
	truncated                      *prometheus.CounterVec
	processes, objects, onlineCPUs prometheus.Gauge
}

// registering gives functions that make metrics whose names begin with a prefix.
func registering(reg prometheus.Registerer, prefix string) (
	counter func(name, help string) prometheus.Counter, gauge func(name, help string) prometheus.Gauge,
) {
	counter = func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: prefix + name, Help: help})
		reg.MustRegister(c)
		return c
	}
	gauge = func(name, help string) prometheus.Gauge {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Name: prefix + name, Help: help})
		reg.MustRegister(g)
		return g
	}
	return counter, gauge
}

func newStats(reg prometheus.Registerer) *stats {
	counter, gauge := registering(reg, "fleetprof_profiler_")
	s := &stats{
		samples:          counter("samples_total", "Samples handed on."),
		badRecords:       counter("bad_records_total", "Records of the ring that did not keep the treaty."),
		events:           counter("process_events_total", "Process events read from the perf side-band."),
		lostEvents:       counter("process_events_lost_total", "Process events the side-band had no room for; all processes are then read again."),
		mapsErrors:       counter("maps_errors_total", "Processes whose mappings could not be read in full."),
		fileErrors:       counter("file_errors_total", "Sampled files that could not be opened; their frames have no names."),
		unknownAddresses: counter("unknown_addresses_total", "User frames outside of every known mapping."),
		cpuErrors:        counter("cpu_errors_total", "Attempts to follow CPUs coming online or going offline that ended in an error."),
		unfollowed:       counter("unfollowed_reads_total", "Reads from Unix sockets that were dropped because the sockets' closes were not seen yet."),
		processes:        gauge("processes", "Processes known."),
		objects:          gauge("objects", "Different mapped files known."),
		onlineCPUs:       gauge("cpus", "CPUs sampled."),
		truncated: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fleetprof_profiler_truncated_stacks_total",
			Help: "User stacks cut before their outermost frame, by reason.",
		}, []string{"reason"}),
	}
	reg.MustRegister(s.truncated)
	return s
}

// kernelCollector shows the kernel side's counters.
type kernelCollector struct {
	sampler *bpf.Sampler
	// requests is nil if requests are not followed.
	requests *bpf.Requests
	desc     *prometheus.Desc
	lostCPU  *prometheus.Desc
	memory   *prometheus.Desc
}

func newKernelCollector(sampler *bpf.Sampler) *kernelCollector {
	return &kernelCollector{
		sampler: sampler,
		desc: prometheus.NewDesc("fleetprof_bpf_events_total",
			"What happened to ticks on the kernel side, by outcome.", []string{"event"}, nil),
		lostCPU: prometheus.NewDesc("fleetprof_bpf_lost_cpu_seconds_total",
			"CPU time that lost ticks stood for; it is in profiles as [lost samples].", nil, nil),
		memory: prometheus.NewDesc("fleetprof_bpf_map_bytes",
			"Kernel memory of all BPF maps.", nil, nil),
	}
}

func (k *kernelCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- k.desc
	ch <- k.lostCPU
	ch <- k.memory
}

func (k *kernelCollector) Collect(ch chan<- prometheus.Metric) {
	c, err := k.sampler.Counters()
	if err != nil {
		ch <- prometheus.NewInvalidMetric(k.desc, err)
		return
	}
	for event, n := range map[string]uint64{
		"tick":               c.Ticks,
		"lost_ring_full":     c.LostRingFull,
		"lost_scratch":       c.LostScratch,
		"lost_call":          c.LostCall,
		"kernel_stack_error": c.KernelStackError,
		"kernel_worker":      c.KernelWorker,
		"cgroup_error":       c.CgroupError,
		"late":               c.Late,
		"late_refused":       c.LateRefused,
		"known":              c.Known,
		"labels_cut":         c.LabelsCut,
		"excluded":           c.Excluded,
		"passed_over":        c.PassedOver,
	} {
		ch <- prometheus.MustNewConstMetric(k.desc, prometheus.CounterValue, float64(n), event)
	}
	ch <- prometheus.MustNewConstMetric(k.lostCPU, prometheus.CounterValue, float64(c.LostNanoseconds)/1e9)
	bytes, err := k.sampler.MapBytes()
	if err != nil {
		ch <- prometheus.NewInvalidMetric(k.memory, err)
		return
	}
	if k.requests != nil {
		more, err := k.requests.MapBytes()
		if err != nil {
			ch <- prometheus.NewInvalidMetric(k.memory, err)
			return
		}
		bytes += more
	}
	ch <- prometheus.MustNewConstMetric(k.memory, prometheus.GaugeValue, float64(bytes))
}
