// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
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

// serveMetrics answers /metrics, /healthz and /readyz of an agent until stop
// is called. The last two fail with what healthy says. policy answers what the
// agent collects.
func serveMetrics(address string, registry *prometheus.Registry, healthy func() error, policy http.Handler, log *slog.Logger) (stop func() error, err error) {
	ln, err := listen(address)
	if err != nil {
		return nil, err
	}
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
	server := &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: 5 * time.Second,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	go server.Serve(ln)
	return server.Close, nil
}

// checkAddress refuses a --listen that can be no address.
func checkAddress(address string) error {
	if _, _, err := net.SplitHostPort(address); err != nil {
		return badFlag("listen", "must be an address such as 127.0.0.1:7171: %w", err)
	}
	return nil
}

// listen opens a TCP port.
func listen(address string) (net.Listener, error) {
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("%w; give another address with --listen", err)
	}
	return ln, nil
}
