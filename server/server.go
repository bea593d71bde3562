// SPDX-License-Identifier: Apache-2.0

// Package server is the embedded central store behind HTTP: agents send their
// profiles to it, people and go tool pprof ask it questions.
//
//	POST /api/v1/push, /api/v1/profiles, …    package ingest
//	GET  /api/v1/pprof, /api/v1/…             package query
//	POST /querier.v1.QuerierService/…         package grafana
//	     /api/v1/policy, /api/v1/policy/boost package policy
//	     /api/v1/debuginfo/{build_id}         package debuginfo
//	GET  /metrics, /healthz, /readyz          for whoever runs it
//	GET  /                                    the page, which the caller hands in
//
// Package access says who may do what; roles.go which path takes which role.
// On a loopback address the server keeps foreign web pages out, which a browser
// on the same host could otherwise be made to send here.
package server

import (
	"cmp"
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

	"github.com/fleetprof/fleetprof/server/access"
	"github.com/fleetprof/fleetprof/server/debuginfo"
	"github.com/fleetprof/fleetprof/server/grafana"
	"github.com/fleetprof/fleetprof/server/ingest"
	"github.com/fleetprof/fleetprof/server/policy"
	"github.com/fleetprof/fleetprof/server/query"
	"github.com/fleetprof/fleetprof/server/store"
)

const (
	readHeaderTimeout = 5 * time.Second
	readTimeout       = time.Minute
	idleTimeout       = 2 * time.Minute
	// sendTimeout bounds how long an answer is sent, once the time for a query is over: a
	// large one over a slow line.
	sendTimeout    = 90 * time.Second
	maxHeaderBytes = 64 << 10
	// maxStreams bounds the requests of one HTTP/2 connection at a time.
	maxStreams = 100
	// maxBody bounds the body of every request, and maxPush of those that bring
	// profiles: in bytes, and many endpoints take less.
	maxBody = 1 << 20
	maxPush = 64 << 20
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
	// Guard knows who may do what, Limiter how much each of them may send.
	Guard   *access.Guard
	Limiter *access.Limiter
	// Queries has the bounds of queries; zero values mean the defaults, and what is not a
	// bound is filled in.
	Queries query.Options
	// DebugInfoBytes bounds the disk space of debug information, which lies beside the profiles; 0 is
	// none.
	DebugInfoBytes int64
	// Host is the host name that users were told, if it is not an IP address.
	Host string
}

// Server is an http.Handler. It is safe for concurrent use.
type Server struct {
	store   *store.Store
	log     *slog.Logger
	host    string
	policy  *policy.Keeper
	debug   *debuginfo.Keeper
	guard   *access.Guard
	handler http.Handler
	// writeTimeout is from when a request is read to when its answer is written.
	writeTimeout time.Duration
}

// New puts the handlers together and starts nothing.
func New(o Options) (*Server, error) {
	in, err := ingest.New(o.Store, o.Logger, o.Registry)
	if err != nil {
		return nil, err
	}
	debug, err := debuginfo.Open(debuginfo.Options{Dir: o.Store.Beside("debuginfo"), Bytes: o.DebugInfoBytes, Client: access.Client, Logger: o.Logger, Registerer: o.Registry})
	if err != nil {
		return nil, err
	}
	queries := o.Queries
	queries.Names = debug
	queries.Store, queries.Logger, queries.Registerer, queries.Client = o.Store, o.Logger, o.Registry, access.Client
	api, err := query.New(queries)
	if err != nil {
		return nil, err
	}
	keeper, err := policy.Open(policy.Options{Dir: o.Store.Beside("policy"), Logger: o.Logger, Registerer: o.Registry})
	if err != nil {
		return nil, err
	}
	s := &Server{
		store: o.Store, log: o.Logger, host: o.Host, policy: keeper, debug: debug, guard: o.Guard,
		writeTimeout: cmp.Or(queries.Timeout, query.DefaultTimeout) + sendTimeout,
	}
	mux := http.NewServeMux()
	in.Register(mux)
	api.Register(mux)
	grafana.New(api).Register(mux)
	keeper.Register(mux)
	debug.Register(mux)
	mux.Handle("GET /metrics", promhttp.HandlerFor(o.Registry, promhttp.HandlerOpts{Registry: o.Registry}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, "ok") })
	mux.HandleFunc("GET /readyz", s.ready)
	mux.HandleFunc("/api/", query.NoEndpoint)
	mux.Handle("/", o.Page)
	s.handler = http.NewCrossOriginProtection().Handler(o.Guard.Protect(needs, bounded(o.Limiter, mux)))
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
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true) // as gRPC has it
	h := &http.Server{
		Handler:           handler,
		TLSConfig:         s.guard.TLSConfig(),
		Protocols:         protocols,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: maxStreams},
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      s.writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
	}
	h.RegisterOnShutdown(s.policy.Release)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.store.Run(ctx) })
	g.Go(func() error { return s.debug.Run(ctx) })
	g.Go(func() error {
		serve := h.Serve
		if h.TLSConfig != nil {
			serve = func(ln net.Listener) error { return h.ServeTLS(ln, "", "") }
		}
		if err := serve(ln); !errors.Is(err, http.ErrServerClosed) {
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
	return errors.Join(g.Wait(), s.debug.Close())
}
