// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"github.com/alecthomas/units"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/fleetprof/fleetprof/internal/cputime"
	"github.com/fleetprof/fleetprof/server"
	"github.com/fleetprof/fleetprof/server/access"
	"github.com/fleetprof/fleetprof/server/debuginfo"
	"github.com/fleetprof/fleetprof/server/query"
	"github.com/fleetprof/fleetprof/server/store"
	"github.com/fleetprof/fleetprof/server/web"
)

// serving is the flags of the store and its page.
type serving struct {
	Listen    string           `help:"Address of the page and the API. Elsewhere than on loopback it takes --auth-file, --tls-client-ca or --insecure-listen." default:"127.0.0.1:7171" placeholder:"ADDRESS"`
	Data      string           `help:"Directory of the stored profiles." default:"/var/lib/fleetprof" type:"path" placeholder:"DIR"`
	Retention time.Duration    `help:"Profiles older than this are deleted." default:"168h"`
	MaxBytes  units.Base2Bytes `help:"Disk space for profiles; the oldest are deleted beyond it." default:"2GiB" placeholder:"SIZE"`
	DebugInfo units.Base2Bytes `help:"Disk space for debug information that agents send (--symbolize=store), beside that for profiles; files that were not used for the longest time are removed beyond it. One may have a quarter of it. 0 is to take none." name:"debuginfo-bytes" default:"2GiB" placeholder:"SIZE"`

	IngestRate     units.Base2Bytes `help:"Bytes of profiles a second that one client may send, compressed as they come, ten times as many at once: more is answered with 429. 0 is no limit." default:"32MiB" placeholder:"SIZE"`
	IngestRequests int              `help:"Uploads a second of one client, ten times as many at once. 0 is no limit." default:"200" placeholder:"N"`

	QueryTimeout     time.Duration    `help:"Time of a query, its wait for others included." default:"30s"`
	QueryMemory      units.Base2Bytes `help:"Memory that one query may take: beyond it the answer is an error." default:"256MiB" placeholder:"SIZE"`
	QueriesMemory    units.Base2Bytes `help:"Memory of all queries, and of answers that are not sent yet." default:"512MiB" placeholder:"SIZE"`
	QueryConcurrency int64            `help:"Queries that are answered at a time, of one client at most half of them; others wait." default:"4" placeholder:"N"`
	guarding
}

// Validate is called by the flag parser.
func (s *serving) Validate() error {
	if s.Retention < time.Minute {
		return badFlag("retention", "must be at least 1m")
	}
	if s.MaxBytes < 1<<20 {
		return badFlag("max-bytes", "must be at least 1MiB")
	}
	if s.DebugInfo != 0 && s.DebugInfo < debuginfo.LeastBytes {
		return badFlag("debuginfo-bytes", "must be 0 or at least 64MiB")
	}
	if s.IngestRate < 0 {
		return badFlag("ingest-rate", "must not be negative")
	}
	if s.IngestRequests < 0 {
		return badFlag("ingest-requests", "must not be negative")
	}
	if s.QueryTimeout < time.Second || s.QueryTimeout > time.Hour {
		return badFlag("query-timeout", "must be between 1s and 1h")
	}
	if s.QueryMemory < 1<<20 {
		return badFlag("query-memory", "must be at least 1MiB")
	}
	if s.QueriesMemory < s.QueryMemory {
		return badFlag("queries-memory", "must be at least --query-memory, %v", s.QueryMemory)
	}
	if s.QueryConcurrency < 1 || s.QueryConcurrency > 1024 {
		return badFlag("query-concurrency", "must be between 1 and 1024")
	}
	return s.checkListener(s.Listen)
}

// serverCommand is `fleetprof server`.
type serverCommand struct {
	serving
}

// Help is the text below the flags.
func (serverCommand) Help() string { return authHelp }

// authHelp is what --help says of --auth-file.
const authHelp = `An --auth-file, with one of the roles push (agents), read and policy or several:

  users:
    - name: agents
      roles: [push]
      token_sha256: …       # openssl rand -hex 32 >token; tr -d '\n' <token | sha256sum
    - name: alice
      roles: [read, policy]
      password_bcrypt: …    # htpasswd -nBC 10 alice, what is behind the colon
    - name: nodes
      roles: [push]
      certificate: '*'      # or one name of a certificate of --tls-client-ca

Tokens go as "Authorization: Bearer", or as the password of their name.`

// softMemory is what garbage may not double: beyond so many bytes it is collected as often
// as it takes to stay there, and from what is in use on, half of the time at most. GOMEMLIMIT
// goes before it.
const softMemory = 768 << 20

// Run serves until ctx ends.
func (c *serverCommand) Run(ctx context.Context, con *console) error {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(softMemory)
	}
	s, err := newStoreServer(c.serving, newRegistry(), con.log, nil)
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
	listener *listener
}

// newStoreServer opens the store and listens. The meter, which may be nil, counts what all but taking profiles costs.
func newStoreServer(c serving, registry *prometheus.Registry, log *slog.Logger, meter *cputime.Meter) (_ *storeServer, err error) {
	s := new(storeServer)
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	if s.listener, err = c.listen(c.Listen, registry, log); err != nil {
		return nil, err
	}
	if s.store, err = store.Open(c.Data, store.Options{
		MaxBytes: int64(c.MaxBytes), MaxAge: c.Retention, Logger: log, Registerer: registry, Meter: meter,
	}); err != nil {
		return nil, err
	}
	host, _, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return nil, fmt.Errorf("read --listen: %w", err)
	}
	limiter, err := access.NewLimiter(access.Limits{
		BytesPerSecond: int64(c.IngestRate), RequestsPerSecond: c.IngestRequests,
	}, registry)
	if err != nil {
		return nil, err
	}
	s.server, err = server.New(server.Options{
		Store: s.store, Logger: log, Registry: registry, Page: web.Handler(), Host: host,
		Guard: s.listener.guard, Limiter: limiter, DebugInfoBytes: int64(c.DebugInfo),
		Queries: query.Options{
			Timeout: c.QueryTimeout, MaxResult: int64(c.QueryMemory), MaxMemory: int64(c.QueriesMemory), MaxConcurrent: c.QueryConcurrency,
			Meter: meter,
		},
	})
	return s, err
}

// URL is where the page is, seen from this host.
func (s *storeServer) URL() string {
	address := s.listener.Addr().(*net.TCPAddr)
	if !address.IP.IsUnspecified() {
		return s.listener.scheme() + "://" + address.String()
	}
	return fmt.Sprintf("%s://127.0.0.1:%d", s.listener.scheme(), address.Port)
}

// Serve answers requests until ctx ends.
func (s *storeServer) Serve(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	var beside sync.WaitGroup
	beside.Go(func() { s.listener.follow(ctx) })
	err := s.server.Serve(ctx, s.listener)
	stop()
	beside.Wait()
	return err
}

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
