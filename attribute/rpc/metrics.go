// SPDX-License-Identifier: Apache-2.0

package rpc

import (
	"github.com/fleetprof/fleetprof/sample"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// requestMetrics are those by service and handler.
type requestMetrics struct {
	requests, errors, cpu *prometheus.CounterVec
	duration              *prometheus.HistogramVec
	// withheld counts the requests of which nothing else is told; the others go nowhere.
	withheld, nowhere prometheus.Counter
	untimed           prometheus.Observer
}

func newRequestMetrics(r prometheus.Registerer) *requestMetrics {
	labels := []string{
		sample.LabelService, sample.LabelHTTPMethod, sample.LabelHTTPRoute, sample.LabelURLTemplate,
		sample.LabelRPCMethod, sample.LabelRPCSystem,
	}
	counter := func(name, help string) *prometheus.CounterVec {
		return promauto.With(r).NewCounterVec(prometheus.CounterOpts{Name: "fleetprof_rpc_" + name, Help: help}, labels)
	}
	return &requestMetrics{
		requests: counter("requests_total", "Requests that were read from sockets."),
		errors:   counter("errors_total", "Requests answered with a status of 500 or more."),
		cpu:      counter("cpu_seconds_total", "CPU time of the samples that served a request, exact and inferred."),
		duration: promauto.With(r).NewHistogramVec(prometheus.HistogramOpts{
			Name: "fleetprof_rpc_duration_seconds",
			Help: "From the request's first bytes read to the first byte of its answer written.",
			// Six buckets: a host may have thousands of handlers.
			Buckets: []float64{.001, .005, .025, .1, .5, 2.5},
		}, labels),
		withheld: promauto.With(r).NewCounter(prometheus.CounterOpts{
			Name: "fleetprof_rpc_withheld_requests_total",
			Help: "Requests of processes that rules exclude, or about which they are not decided yet. They are in no other metric of requests.",
		}),
		nowhere: prometheus.NewCounter(prometheus.CounterOpts{}),
		untimed: prometheus.NewHistogram(prometheus.HistogramOpts{Buckets: []float64{1}}),
	}
}

func (m *requestMetrics) handler(s *service, l sample.Handler) *handler {
	if s.withheld {
		return &handler{labels: l, requests: m.withheld, errors: m.nowhere, cpu: m.nowhere, duration: m.untimed}
	}
	values := []string{s.name, l.HTTPMethod, l.HTTPRoute, l.URLTemplate, l.RPCMethod, l.RPCSystem}
	return &handler{
		labels:   l,
		requests: m.requests.WithLabelValues(values...),
		errors:   m.errors.WithLabelValues(values...),
		cpu:      m.cpu.WithLabelValues(values...),
		duration: m.duration.WithLabelValues(values...),
	}
}

// engineMetrics are about the engine itself.
type engineMetrics struct {
	samples map[sample.Attribution]prometheus.Counter
	// candidates is how many open requests an ambiguous sample had.
	candidates prometheus.Histogram
	malformed  prometheus.Counter
	unmatched  prometheus.Counter
	late       prometheus.Counter
	lost       prometheus.Counter
	passed     prometheus.Counter
	pending    prometheus.Gauge
	// Headers of that name, where exemplars are asked for.
	tracesValid, tracesMalformed, tracesUnknown, exemplarsLeftOut prometheus.Counter
	// What gave way to a bound.
	pendingDropped, socketsEvicted, executorsEvicted, requestsDropped, decodersDropped prometheus.Counter
	// How requests ended.
	answered, closed, superseded, idle, void prometheus.Counter
}

func newEngineMetrics(r prometheus.Registerer) engineMetrics {
	auto := promauto.With(r)
	counter := func(name, help string) prometheus.Counter {
		return auto.NewCounter(prometheus.CounterOpts{Name: "fleetprof_rpc_" + name, Help: help})
	}
	samples := auto.NewCounterVec(prometheus.CounterOpts{
		Name: "fleetprof_rpc_samples_total",
		Help: "Samples by how certain it is which request they served.",
	}, []string{sample.LabelAttribution})
	evicted := auto.NewCounterVec(prometheus.CounterOpts{
		Name: "fleetprof_rpc_dropped_total",
		Help: "What was given up to keep memory bounded.",
	}, []string{"what"})
	ends := auto.NewCounterVec(prometheus.CounterOpts{
		Name: "fleetprof_rpc_ended_total",
		Help: "Requests that ended, by how that showed.",
	}, []string{"by"})
	traces := auto.NewCounterVec(prometheus.CounterOpts{
		Name: "fleetprof_rpc_traceparents_total",
		Help: "Requests with a valid or malformed traceparent, and those whose header was not seen whole.",
	}, []string{"result"})
	m := engineMetrics{
		samples: make(map[sample.Attribution]prometheus.Counter),
		candidates: auto.NewHistogram(prometheus.HistogramOpts{
			Name:    "fleetprof_rpc_ambiguous_candidates",
			Help:    "Open requests that an ambiguous sample may have served.",
			Buckets: []float64{1, 2, 4, 8, 16, 64, 256},
		}),
		malformed: counter("malformed_heads_total", "Heads that begin like an HTTP/1 request and are none."),
		unmatched: counter("unmatched_answers_total", "Answers on sockets that have no open request."),
		late:      counter("late_samples_total", "Samples that came after activities which happened after them, so that sockets tell nothing of them."),
		lost:      counter("lost_activities_total", "Activities that did not arrive from the kernel side."),
		passed:    counter("passed_requests_total", "Requests of busy connections that were counted only, as if they were like the next one."),
		pending: auto.NewGauge(prometheus.GaugeOpts{
			Name: "fleetprof_rpc_pending_samples", Help: "Samples that wait for a decision.",
		}),
		tracesValid:      traces.WithLabelValues("valid"),
		tracesMalformed:  traces.WithLabelValues("malformed"),
		tracesUnknown:    traces.WithLabelValues("unknown"),
		exemplarsLeftOut: counter("exemplars_left_out_total", "Requests for which a window had no room to keep as many exemplars of their handler as asked for."),
		pendingDropped:   evicted.WithLabelValues("pending_sample"),
		socketsEvicted:   evicted.WithLabelValues("socket"),
		executorsEvicted: evicted.WithLabelValues("executor"),
		requestsDropped:  evicted.WithLabelValues("request"),
		decodersDropped:  evicted.WithLabelValues("decoder"),
		answered:         ends.WithLabelValues("answer"),
		closed:           ends.WithLabelValues("close"),
		superseded:       ends.WithLabelValues("next"),
		idle:             ends.WithLabelValues("idle"),
		void:             ends.WithLabelValues("void"),
	}
	for _, a := range []sample.Attribution{
		sample.Exact, sample.Inferred, sample.Ambiguous, sample.Unattributed, sample.Runtime,
	} {
		m.samples[a] = samples.WithLabelValues(string(a))
	}
	return m
}
