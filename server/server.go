// SPDX-License-Identifier: Apache-2.0

// Package server is the embedded central store behind HTTP: agents send their
// profiles to it, people and go tool pprof ask it questions.
//
//	POST /api/v1/profiles, /api/v1/exemplars  package ingest
//	GET  /api/v1/pprof, /api/v1/…             package query
//	     /api/v1/policy, /api/v1/policy/boost package policy
//	GET  /metrics, /healthz, /readyz          for whoever runs it
//	GET  /                                    the page, which the caller hands in
//
// There is no authentication: whoever reaches the address may read and write.
// On a loopback address the server keeps foreign web pages out, which a browser
// on the same host could otherwise be made to send here.
package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"

	"github.com/fleetprof/fleetprof/server/ingest"
	"github.com/fleetprof/fleetprof/server/policy"
	"github.com/fleetprof/fleetprof/server/query"
	"github.com/fleetprof/fleetprof/server/store"
)

const (
	readHeaderTimeout = 5 * time.Second
	readTimeout       = time.Minute
	writeTimeout      = 2 * time.Minute // a large answer over a slow line
	idleTimeout       = 2 * time.Minute
	maxHeaderBytes    = 64 << 10
	// stopTimeout bounds how long requests under way may go on after the end.
	stopTimeout = time.Second
)

// Options for New.
type Options struct {
	// Store is the caller's to open and, after Serve has returned, to close.
	Store  *store.Store
	Logger *slog.Logger
	// Registry takes the metrics of the server, and is what /metrics shows.
	Registry *prometheus.Registry
	// Page answers whatever is not listed above; it must be there.
	Page http.Handler
	// Host is the host name that users were told, if it is not an IP address.
	Host string
}

// Server is an http.Handler. It is safe for concurrent use.
type Server struct {
	store   *store.Store
	log     *slog.Logger
	host    string
	policy  *policy.Keeper
	handler http.Handler
}

// New puts the handlers together and starts nothing.
func New(o Options) (*Server, error) {
	in, err := ingest.New(o.Store, o.Logger, o.Registry)
	if err != nil {
		return nil, err
	}
	api, err := query.New(query.Options{Store: o.Store, Logger: o.Logger, Registerer: o.Registry})
	if err != nil {
		return nil, err
	}
	keeper, err := policy.Open(policy.Options{Dir: o.Store.Beside("policy"), Logger: o.Logger, Registerer: o.Registry})
	if err != nil {
		return nil, err
	}
	s := &Server{store: o.Store, log: o.Logger, host: o.Host, policy: keeper}
	mux := http.NewServeMux()
	mux.Handle("POST /api/v1/profiles", in)
	mux.HandleFunc("POST /api/v1/exemplars", in.ServeExemplars)
	api.Register(mux)
	keeper.Register(mux)
	mux.Handle("GET /metrics", promhttp.HandlerFor(o.Registry, promhttp.HandlerOpts{Registry: o.Registry}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, "ok") })
	mux.HandleFunc("GET /readyz", s.ready)
	mux.HandleFunc("/api/", query.NoEndpoint)
	mux.Handle("/", o.Page)
	s.handler = http.NewCrossOriginProtection().Handler(mux)
	return s, nil
}

// Policy is the policy that this server gives out.
func (s *Server) Policy() *policy.Keeper { return s.policy }

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

// ready answers whether profiles can be stored.
func (s *Server) ready(w http.ResponseWriter, _ *http.Request) {
	if err := s.store.Writable(); err != nil {
		answer(w, http.StatusServiceUnavailable, fmt.Sprintf("not ready: cannot store profiles: %v", err))
		return
	}
	answer(w, http.StatusOK, "ready")
}

func answer(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text+"\n") // the client may be gone
}

// Serve answers requests and keeps the store within its age until ctx ends,
// then lets requests under way go on for at most a second. It closes ln.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	var handler http.Handler = s
	if a, ok := ln.Addr().(*net.TCPAddr); ok && a.IP.IsLoopback() {
		handler = onlyHosts(s.host, s)
	}
	h := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
	}
	h.RegisterOnShutdown(s.policy.Release)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.store.Run(ctx) })
	g.Go(func() error {
		if err := h.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve on %v: %w", ln.Addr(), err)
		}
		return nil
	})
	g.Go(func() error {
		<-ctx.Done()
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		if err := h.Shutdown(stop); err != nil {
			s.log.Warn("requests under way were cut off", "after", stopTimeout)
			return h.Close()
		}
		return nil
	})
	return g.Wait()
}
