// SPDX-License-Identifier: Apache-2.0

// Package uploader carries profiles to their destinations. Each has a queue of its own, on
// disk (the spool) where there is one and else in memory, and a sender that empties it in order. What a
// destination cannot take now is tried again, also by the next process; what it will never
// take is dropped and counted.
//
// A profile that Enqueue has returned for outlives a kill of the process if it is on disk, and
// after some seconds also a loss of power. The disk is not trusted: what it does not take waits in
// memory, within a bound.
//
// Delivery is at least once: when an answer is lost, the same bytes are sent again, and the
// destination has to recognise them. docs/operating.md has the operator's view.
package uploader

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/fleetprof/fleetprof/reshape"
	"github.com/fleetprof/fleetprof/sample"
)

// Destination is where profiles go.
type Destination interface {
	// Send delivers one profile, and its exemplars where the destination takes any. It
	// gives up when ctx ends. An error that wraps Permanent means that trying again
	// cannot help, one that wraps Incomplete that only the exemplars are refused, Partial
	// that some samples are, one that wraps Retry says when to try again, and any other
	// is tried again.
	Send(ctx context.Context, p sample.Profile) error
	// String is the destination as the user gave it, without secrets. It names its metrics and
	// its spool, so it differs from that of others and is the same after a restart.
	String() string
}

// Concurrent is a Destination that takes several profiles at a time, such as one that needs
// long for each. They are begun in order; Send must be safe for concurrent use.
type Concurrent interface {
	Destination
	// Concurrency is how many, at most.
	Concurrency() int
}

// Shortening is a Destination whose store has not room for everything.
type Shortening interface {
	Destination
	// Cuts is what was left off the profiles delivered so far. It is safe for concurrent use.
	Cuts() reshape.Cuts
}

// Permanent marks an error of Send after which the profile is dropped.
type Permanent struct {
	Err error
	// Reason is one of a few words for why, in the terms of the protocol, such as
	// invalid_argument. It is part of a metric, and what has the same one is logged once; "" is
	// none.
	Reason string
}

func (p Permanent) Error() string { return p.Err.Error() }
func (p Permanent) Unwrap() error { return p.Err }

// Incomplete marks an error of Send after which the profile is delivered and its
// exemplars are dropped.
type Incomplete struct{ Err error }

func (i Incomplete) Error() string { return i.Err.Error() }
func (i Incomplete) Unwrap() error { return i.Err }

// Partial marks an error of Send after which the profile is delivered, but for samples that
// are refused for good. If Err wraps Permanent, that says why.
type Partial struct {
	Err error
	// Samples is how many, as sample.Profile counts them.
	Samples int64
}

func (p Partial) Error() string { return p.Err.Error() }
func (p Partial) Unwrap() error { return p.Err }

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
	DefaultSpoolBytes   = 256 << 20
	DefaultSpoolAge     = 24 * time.Hour
)

// Options for New. Zero values mean the defaults.
type Options struct {
	Destinations []Destination
	// QueueBytes bounds what waits in memory for each destination.
	QueueBytes int
	// SpoolDir is the directory of the spools; empty is none: all waits in memory. It must
	// belong to this process alone.
	SpoolDir string
	// SpoolBytes bounds what waits on disk for each destination.
	SpoolBytes int64
	// SpoolAge bounds how long a profile waits, on disk or in memory.
	SpoolAge time.Duration
	// FlushTimeout bounds how long Run goes on sending after its context ended.
	FlushTimeout time.Duration
	Logger       *slog.Logger
	Registerer   prometheus.Registerer
}

// withDefaults fills in what is not said.
func (o Options) withDefaults() Options {
	o.QueueBytes = cmp.Or(o.QueueBytes, DefaultQueueBytes)
	o.SpoolBytes = cmp.Or(o.SpoolBytes, DefaultSpoolBytes)
	o.SpoolAge = cmp.Or(o.SpoolAge, DefaultSpoolAge)
	o.FlushTimeout = cmp.Or(o.FlushTimeout, DefaultFlushTimeout)
	return o
}

// Uploader is safe for concurrent use.
type Uploader struct {
	senders []*sender
	left    *leftSpools
}

// New makes the queues, with what an earlier run has left in the spools, and starts nothing.
func New(o Options) (*Uploader, error) {
	o = o.withDefaults()
	if len(o.Destinations) == 0 {
		return nil, errors.New("make uploader: there is no destination")
	}
	m, err := newMetrics(o.Registerer)
	if err != nil {
		return nil, fmt.Errorf("register uploader metrics: %w", err)
	}
	u := &Uploader{left: newLeftSpools(o, m)}
	for i, d := range o.Destinations {
		if slices.ContainsFunc(o.Destinations[:i], func(other Destination) bool { return other.String() == d.String() }) {
			return nil, fmt.Errorf("make uploader: destination %v is there twice", d)
		}
		s, err := newSender(d, o, m)
		if err != nil {
			return nil, fmt.Errorf("make sender for %v: %w", d, err)
		}
		u.senders = append(u.senders, s)
	}
	return u, nil
}

// diskPatience is how long Enqueue waits for a disk. It takes a millisecond as a rule.
const diskPatience = time.Second

// Enqueue hands p to every destination. When it returns, p is on disk where there is a spool,
// unless that fails or takes more than a second. It waits for nothing else: a queue that is
// full drops its oldest profiles, which is counted. The caller must not change p afterwards.
func (u *Uploader) Enqueue(p sample.Profile) {
	settled := make([]<-chan struct{}, 0, len(u.senders))
	for _, s := range u.senders {
		if c := s.queue.put(p, time.Now()); c != nil {
			settled = append(settled, c)
		}
	}
	patience := time.NewTimer(diskPatience)
	defer patience.Stop()
	for _, c := range settled {
		select {
		case <-c:
		case <-patience.C:
			return
		}
	}
}

// Run sends until ctx ends, by when everything must be enqueued, then what is left: until that fails, for at most
// FlushTimeout. What is not sent by then stays in the spool; what is not there either is logged
// and counted as dropped. It returns nil.
func (u *Uploader) Run(ctx context.Context) error {
	var g errgroup.Group
	for _, s := range u.senders {
		g.Go(func() error {
			s.run(ctx)
			return nil
		})
	}
	g.Go(func() error {
		u.left.run(ctx)
		return nil
	})
	return g.Wait()
}
