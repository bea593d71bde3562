// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/alecthomas/units"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/fleetprof/fleetprof/server"
	"github.com/fleetprof/fleetprof/server/store"
	"github.com/fleetprof/fleetprof/server/web"
)

// serving is the flags of the store and its page.
type serving struct {
	Listen    string           `help:"Address of the page and the API. There is no authentication: keep it on loopback or behind a proxy." default:"127.0.0.1:7171" placeholder:"ADDRESS"`
	Data      string           `help:"Directory of the stored profiles." default:"/var/lib/fleetprof" type:"path" placeholder:"DIR"`
	Retention time.Duration    `help:"Profiles older than this are deleted." default:"168h"`
	MaxBytes  units.Base2Bytes `help:"Disk space for profiles; the oldest are deleted beyond it." default:"2GiB" placeholder:"SIZE"`
}

// Validate is called by the flag parser.
func (s *serving) Validate() error {
	if s.Retention < time.Minute {
		return badFlag("retention", "must be at least 1m")
	}
	if s.MaxBytes < 1<<20 {
		return badFlag("max-bytes", "must be at least 1MiB")
	}
	return checkAddress(s.Listen)
}

// serverCommand is `fleetprof server`.
type serverCommand struct {
	serving
}

// Run serves until ctx ends.
func (c *serverCommand) Run(ctx context.Context, con *console) error {
	s, err := newStoreServer(c.serving, newRegistry(), con.log)
	if err != nil {
		return err
	}
	defer s.Close()
	con.log.Info("serving", "page", s.URL(), "data", c.Data)
	return s.Serve(ctx)
}

// storeServer is the store, its HTTP server and the port it listens on.
type storeServer struct {
	store    *store.Store
	server   *server.Server
	listener net.Listener
}

func newStoreServer(c serving, registry *prometheus.Registry, log *slog.Logger) (_ *storeServer, err error) {
	s := new(storeServer)
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	if s.listener, err = listen(c.Listen); err != nil {
		return nil, err
	}
	if s.store, err = store.Open(c.Data, store.Options{
		MaxBytes: int64(c.MaxBytes), MaxAge: c.Retention, Logger: log, Registerer: registry,
	}); err != nil {
		return nil, err
	}
	host, _, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return nil, fmt.Errorf("read --listen: %w", err)
	}
	s.server, err = server.New(server.Options{
		Store: s.store, Logger: log, Registry: registry, Page: web.Handler(), Host: host,
	})
	return s, err
}

// URL is where the page is, seen from this host.
func (s *storeServer) URL() string {
	address := s.listener.Addr().(*net.TCPAddr)
	if !address.IP.IsUnspecified() {
		return "http://" + address.String()
	}
	return fmt.Sprintf("http://127.0.0.1:%d", address.Port)
}

// Serve answers requests until ctx ends.
func (s *storeServer) Serve(ctx context.Context) error { return s.server.Serve(ctx, s.listener) }

// Close is idempotent.
func (s *storeServer) Close() error {
	var errs []error
	if s.listener != nil {
		if err := s.listener.Close(); !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	if s.store != nil {
		errs = append(errs, s.store.Close())
	}
	return errors.Join(errs...)
}
