// SPDX-License-Identifier: Apache-2.0

package kubernetes

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/metadata"
)

// Options are what a Source needs; all fields must be set.
type Options struct {
	// Config is the path of a kubeconfig file, or Auto.
	Config string
	// Node is the name of this node: spec.nodeName of its pods.
	Node       string
	Owners     *Owners
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Source fills a table with what the API server tells.
type Source struct {
	client  metadata.Interface
	node    string
	owners  *Owners
	log     *slog.Logger
	metrics metrics
	pause   pauses
	// toldEmpty says that the log has it that there are no pods.
	toldEmpty bool
}

// pauses are the times from a failure to the next attempt: first, and twice as long after
// every further one, up to last.
type pauses struct{ first, last time.Duration }

// jittered is a random part of a pause, at least half of it: agents of a fleet do not come
// back to an API server all at once.
func jittered(pause time.Duration) time.Duration { return pause/2 + rand.N(pause/2) }

type metrics struct {
	connected                                            prometheus.Gauge
	listed, changed, deleted                             prometheus.Counter
	ownersFound, ownersGone, ownersRefused, ownersFailed prometheus.Counter
	refused, expired, tooLarge, failed, unfit            prometheus.Counter
}

func newMetrics(r prometheus.Registerer) metrics {
	counters := func(name, help, label string) func(value string) prometheus.Counter {
		vector := promauto.With(r).NewCounterVec(prometheus.CounterOpts{Name: "fleetprof_kubernetes_" + name, Help: help}, []string{label})
		return func(value string) prometheus.Counter { return vector.WithLabelValues(value) }
	}
	told := counters("pods_told_total", "Times that the API server told of a pod, by how.", "how")
	owners := counters("owners_total", "ReplicaSets and Jobs asked for, by what came of it. Gone are those that were deleted; refused and failed are asked for again.", "result")
	failures := counters("failures_total", "Lists and watches of pods that failed or broke: refused is a lack of rights, expired a watch that came too late.", "reason")
	return metrics{
		connected: promauto.With(r).NewGauge(prometheus.GaugeOpts{
			Name: "fleetprof_kubernetes_connected",
			Help: "1 while the pods of this node are watched.",
		}),
		listed: told("listed"), changed: told("changed"), deleted: told("deleted"),
		ownersFound: owners("found"), ownersGone: owners("gone"), ownersRefused: owners("refused"), ownersFailed: owners("failed"),
		refused: failures("refused"), expired: failures("expired"), tooLarge: failures("too_large"), failed: failures("failed"),
		unfit: promauto.With(r).NewCounter(prometheus.CounterOpts{
			Name: "fleetprof_kubernetes_names_refused_total",
			Help: "Names left out, and pods not taken, because no object of Kubernetes can be called so.",
		}),
	}
}

// New checks the options; nothing is connected before Run. The error is ErrNoCluster if
// there is nobody to ask.
func New(o Options) (*Source, error) {
	client, err := connect(o.Config)
	if err != nil {
		return nil, err
	}
	return &Source{
		client: client, node: o.Node, owners: o.Owners, log: o.Logger, metrics: newMetrics(o.Registerer),
		pause: pauses{250 * time.Millisecond, 30 * time.Second},
	}, nil
}

// Run follows the pods until ctx ends, however often that fails.
func (s *Source) Run(ctx context.Context) {
	ctx = logr.NewContextWithSlogLogger(ctx, s.log) // for client-go
	var asking sync.WaitGroup
	defer asking.Wait()
	asking.Go(func() { s.resolve(ctx) })
	failing := s.pause.first
	for told := false; ; {
		began := time.Now()
		err := s.follow(ctx)
		if ctx.Err() != nil {
			return
		}
		s.count(err)
		if time.Since(began) > s.pause.last {
			failing, told = s.pause.first, false
		}
		if !told && !isExpired(err) {
			told = true
			s.log.Warn("new pods have no owners until the Kubernetes API answers", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(jittered(failing)):
		}
		failing = min(2*failing, s.pause.last)
	}
}

func isExpired(err error) bool { return apierrors.IsResourceExpired(err) || apierrors.IsGone(err) }

// count counts why pods are not followed any more.
func (s *Source) count(err error) {
	switch {
	case isRefused(err):
		s.metrics.refused.Inc()
	case isExpired(err):
		s.metrics.expired.Inc()
	case errors.Is(err, errTooLarge):
		s.metrics.tooLarge.Inc()
	default:
		s.metrics.failed.Inc()
	}
}
