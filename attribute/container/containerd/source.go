// SPDX-License-Identifier: Apache-2.0

package containerd

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/fleetprof/fleetprof/attribute/container"
)

// Auto for Options.Socket means the first of Sockets that exists.
const Auto = "auto"

// Sockets are the places where containerd listens: by itself, and as part of k3s and
// RKE2, MicroK8s, and k0s.
func Sockets() []string {
	return []string{
		"/run/containerd/containerd.sock",
		"/run/k3s/containerd/containerd.sock",
		"/var/snap/microk8s/common/run/containerd.sock",
		"/run/k0s/containerd.sock",
	}
}

const (
	// absentPause is how often a socket is looked for that is not there or at which
	// nobody listens. It is what a container of a containerd that has just started may
	// live without being known, and costs a few system calls.
	absentPause = 250 * time.Millisecond
	// After a failure of another kind the next attempt comes after firstPause, and
	// twice as long after every further one, up to lastPause.
	firstPause = 100 * time.Millisecond
	lastPause  = 10 * time.Second
)

// Options are what a Source needs; all but PodLabels must be set.
type Options struct {
	// Socket is the path of containerd's socket, or Auto.
	Socket string
	// PodLabels are the names of the pod labels wanted.
	PodLabels  []string
	Table      *container.Table
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Source fills a table with what containerd tells.
type Source struct {
	socket   string
	describe describer
	table    *container.Table
	log      *slog.Logger
	metrics  metrics
}

type metrics struct {
	connected                 prometheus.Gauge
	listed, created, deleted  prometheus.Counter
	missed, tooLong, failures prometheus.Counter
	unreadable                prometheus.Counter
}

func newMetrics(r prometheus.Registerer) metrics {
	told := promauto.With(r).NewCounterVec(prometheus.CounterOpts{
		Name: "fleetprof_containerd_containers_total",
		Help: "Containers that containerd told of, by how. Missed are those gone before they could be asked for.",
	}, []string{"how"})
	return metrics{
		connected: promauto.With(r).NewGauge(prometheus.GaugeOpts{
			Name: "fleetprof_containerd_connected",
			Help: "1 while containers are followed, 0 while containerd cannot be reached.",
		}),
		listed:  told.WithLabelValues("listed"),
		created: told.WithLabelValues("created"),
		deleted: told.WithLabelValues("deleted"),
		missed:  told.WithLabelValues("missed"),
		tooLong: promauto.With(r).NewCounter(prometheus.CounterOpts{
			Name: "fleetprof_containerd_values_too_long_total",
			Help: "Names and labels left out because no real one is that long.",
		}),
		unreadable: promauto.With(r).NewCounter(prometheus.CounterOpts{
			Name: "fleetprof_containerd_events_unreadable_total",
			Help: "Events of containerd that could not be decoded.",
		}),
		failures: promauto.With(r).NewCounter(prometheus.CounterOpts{
			Name: "fleetprof_containerd_failures_total",
			Help: "Connections to containerd that failed or broke.",
		}),
	}
}

// New checks the options; nothing is connected before Run.
func New(o Options) (*Source, error) {
	m := newMetrics(o.Registerer)
	d, err := newDescriber(o.PodLabels, m.tooLong)
	if err != nil {
		return nil, err
	}
	return &Source{socket: o.Socket, describe: d, table: o.Table, log: o.Logger, metrics: m}, nil
}

// Run follows containerd until ctx ends, however often the connection fails.
func (s *Source) Run(ctx context.Context) {
	failing := firstPause
	for told := false; ; {
		began := time.Now()
		err := s.attempt(ctx)
		if time.Since(began) > lastPause {
			failing, told = firstPause, false
		}
		pause := failing
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
			pause = absentPause // as on most hosts without containers
		case !told:
			told = true
			s.log.Warn("new containers have no names until containerd answers", "error", err)
			fallthrough
		default:
			failing = min(2*failing, lastPause)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// attempt follows containerd as long as it can.
func (s *Source) attempt(ctx context.Context) error {
	socket, err := s.find(ctx)
	if err != nil {
		return err
	}
	defer func() {
		if ctx.Err() == nil {
			s.metrics.failures.Inc()
		}
	}()
	c, err := dial(socket)
	if err != nil {
		return err
	}
	defer c.close()
	defer s.metrics.connected.Set(0)
	return s.follow(ctx, c, func() {
		s.metrics.connected.Set(1)
		s.log.Debug("following containers", "socket", socket)
	})
}

// find returns the path of the socket at which somebody listens.
func (s *Source) find(ctx context.Context) (string, error) {
	candidates := []string{s.socket}
	if s.socket == Auto {
		candidates = Sockets()
	}
	var err error
	for _, path := range candidates {
		if _, err = os.Stat(path); err != nil { // a call where connecting takes many
			continue
		}
		var probe net.Conn
		if probe, err = new(net.Dialer).DialContext(ctx, "unix", path); err == nil {
			return path, probe.Close()
		}
	}
	return "", err
}
