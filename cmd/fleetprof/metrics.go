// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/fleetprof/fleetprof/server/access"
)

// newRegistry holds the metrics of this process; its CPU time and memory first.
func newRegistry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		collectors.NewGoCollector(),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name:        "fleetprof_build_info",
			Help:        "1, with the version as a label.",
			ConstLabels: prometheus.Labels{"version": version},
		}, func() float64 { return 1 }),
	)
	return r
}

// A request to an agent is small, and answered at once.
const (
	metricsTimeout = 10 * time.Second
	metricsHeader  = 16 << 10 // bytes
	metricsBody    = 1 << 10  // bytes; nothing reads one
)

// serveMetrics answers /metrics, /healthz and /readyz of an agent until stop
// is called. The last two, for which nobody is asked who he is, fail with what healthy
// says. policy answers what the agent collects.
func serveMetrics(ln *listener, registry *prometheus.Registry, healthy func() error, policy http.Handler) (stop func() error) {
	health := func(w http.ResponseWriter, _ *http.Request) {
		if err := healthy(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		_, _ = io.WriteString(w, "ok\n") // the client may be gone
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{Registry: registry}))
	mux.Handle("GET /api/v1/policy", policy)
	mux.HandleFunc("GET /healthz", health)
	mux.HandleFunc("GET /readyz", health)
	needs := func(r *http.Request) access.Roles {
		if r.URL.Path == "/healthz" || r.URL.Path == "/readyz" {
			return 0
		}
		return access.Read
	}
	server := &http.Server{
		Handler:        ln.guard.Protect(needs, http.MaxBytesHandler(mux, metricsBody)),
		TLSConfig:      ln.guard.TLSConfig(),
		ReadTimeout:    metricsTimeout,
		WriteTimeout:   metricsTimeout,
		IdleTimeout:    2 * time.Minute,
		MaxHeaderBytes: metricsHeader,
		ErrorLog:       slog.NewLogLogger(ln.log.Handler(), slog.LevelWarn),
	}
	following, cancel := context.WithCancel(context.Background())
	go ln.follow(following)
	if server.TLSConfig != nil {
		go server.ServeTLS(ln, "", "")
	} else {
		go server.Serve(ln)
	}
	return func() error {
		cancel()
		return server.Close()
	}
}
