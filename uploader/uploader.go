// SPDX-License-Identifier: Apache-2.0

// Package uploader carries profiles to their destinations: one bounded queue in
// memory for each, filled without ever waiting and emptied in order by one
// goroutine. What a destination cannot take now is tried again; what it will
// never take is dropped and counted.
//
// The queue lives in memory only: it bridges a store that is away for minutes,
// and is lost with the process. A spool on disk is to come. Delivery is at
// least once: when an answer is lost, the same bytes are sent again, and the
// destination has to recognise them.
package uploader

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/fleetprof/fleetprof/sample"
)

// Destination is where profiles go.
type Destination interface {
	// Send delivers one profile, and its exemplars where the destination takes any. It
	// gives up when ctx ends. An error that wraps Permanent means that trying again
	// cannot help, one that wraps Incomplete that only the exemplars are refused, one
	// that wraps Retry says when to try again, and any other is tried again.
	Send(ctx context.Context, p sample.Profile) error
	// String is the destination as the user gave it, without secrets. What is
	// before the first colon is its kind, such as http or dir.
	String() string
}

// Permanent marks an error of Send after which the profile is dropped.
type Permanent struct{ Err error }

func (p Permanent) Error() string { return p.Err.Error() }
func (p Permanent) Unwrap() error { return p.Err }

// Incomplete marks an error of Send after which the profile is delivered and its
// exemplars are dropped.
type Incomplete struct{ Err error }

func (i Incomplete) Error() string { return i.Err.Error() }
func (i Incomplete) Unwrap() error { return i.Err }

// Retry marks an error of Send after which nothing should be sent for a while,
// because the destination asked for it.
type Retry struct {
	Err   error
	After time.Duration
}

func (r Retry) Error() string { return r.Err.Error() }
func (r Retry) Unwrap() error { return r.Err }

// Defaults for Options.
const (
	DefaultQueueBytes   = 16 << 20
	DefaultFlushTimeout = 1500 * time.Millisecond
)

// Options for New. Zero values mean the defaults.
type Options struct {
	Destinations []Destination
	// QueueBytes bounds the queue of each destination.
	QueueBytes int
	// FlushTimeout bounds how long Run goes on sending after its context ended.
	FlushTimeout time.Duration
	Logger       *slog.Logger
	Registerer   prometheus.Registerer
}

// Uploader is safe for concurrent use.
type Uploader struct {
	senders []*sender
	metrics *metrics
}

// New makes the queues and starts nothing.
func New(o Options) (*Uploader, error) {
	if len(o.Destinations) == 0 {
		return nil, errors.New("make uploader: there is no destination")
	}
	if o.QueueBytes == 0 {
		o.QueueBytes = DefaultQueueBytes
	}
	if o.FlushTimeout == 0 {
		o.FlushTimeout = DefaultFlushTimeout
	}
	m, err := newMetrics(o.Registerer)
	if err != nil {
		return nil, fmt.Errorf("register uploader metrics: %w", err)
	}
	u := &Uploader{metrics: m}
	for _, d := range o.Destinations {
		u.senders = append(u.senders, newSender(d, o, m))
	}
	return u, nil
}

// Enqueue hands p to every destination. It never waits: a queue that is full
// drops its oldest profiles, which is counted. The caller must not change p
// afterwards.
func (u *Uploader) Enqueue(p sample.Profile) {
	u.metrics.profilesIn.Inc()
	u.metrics.samplesIn.Add(float64(p.Samples))
	for _, s := range u.senders {
		s.enqueue(p)
	}
}

// Run sends until ctx ends, by when everything must be enqueued, then sends what is left for at most FlushTimeout.
// What could not be sent is logged and counted as dropped; it returns nil.
func (u *Uploader) Run(ctx context.Context) error {
	var g errgroup.Group
	for _, s := range u.senders {
		g.Go(func() error {
			s.run(ctx)
			return nil
		})
	}
	return g.Wait()
}
