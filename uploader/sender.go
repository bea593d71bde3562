// SPDX-License-Identifier: Apache-2.0

package uploader

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/fleetprof/fleetprof/sample"
)

const (
	// The wait before attempt n is a random part of firstWait·2ⁿ, at most
	// maxWait ("full jitter"), so that agents do not come back all at once.
	// https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
	firstWait = 250 * time.Millisecond
	maxWait   = 30 * time.Second
	// maxAsked bounds the wait a destination may ask for.
	maxAsked = 5 * time.Minute
	// maxReasons bounds the reasons for dropping that are remembered so as to
	// be logged only once.
	maxReasons = 16
)

// sender empties the queue of one destination. Only run uses the fields below
// the queue.
type sender struct {
	to      Destination
	flush   time.Duration
	log     *slog.Logger
	metrics *destinationMetrics
	queue   *queue

	failures int                 // attempts in a row that failed
	reasons  map[string]struct{} // for dropping, already logged
}

func newSender(d Destination, o Options, m *metrics) *sender {
	kind, _, _ := strings.Cut(d.String(), ":")
	dm := m.forKind(kind)
	return &sender{
		to:      d,
		flush:   o.FlushTimeout,
		log:     o.Logger.With("destination", d.String()),
		metrics: dm,
		queue:   newQueue(o.QueueBytes, dm.queueBytes),
		reasons: map[string]struct{}{},
	}
}

func (s *sender) enqueue(p sample.Profile) {
	for _, d := range s.queue.put(p) {
		s.metrics.drop(reasonQueueFull, d)
	}
}

// run sends until ctx ends, and then for as long as a flush may take. The
// context of the sending is another, so that what is under way is not cut off.
func (s *sender) run(ctx context.Context) {
	sending, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	end := context.AfterFunc(ctx, func() { time.AfterFunc(s.flush, stop) })
	defer end()
	for sending.Err() == nil {
		p, number, ok := s.queue.head()
		if !ok {
			select {
			case <-s.queue.ready:
				continue
			case <-ctx.Done():
			}
			if _, _, ok := s.queue.head(); !ok {
				return
			}
			continue
		}
		wait := s.attempt(sending, p, number)
		s.sleep(ctx, sending, wait)
	}
	s.abandon()
}

// attempt sends one profile and gives the time to wait before the next.
func (s *sender) attempt(ctx context.Context, p sample.Profile, number uint64) time.Duration {
	err := s.to.Send(ctx, p)
	var permanent Permanent
	var incomplete Incomplete
	var asked Retry
	switch {
	case err == nil, errors.As(err, &incomplete):
		if err != nil {
			s.metrics.exemplarsDropped.Inc()
			s.logOnce(err)
		}
		if s.failures > 0 {
			s.log.Info("destination takes profiles again", "failed_attempts", s.failures)
		}
		s.failures = 0
		// What the queue gave up while it was being sent is counted as dropped,
		// and not again, so that in = sent + dropped + waiting.
		if s.queue.remove(number) {
			s.metrics.sent(p)
		}
		return 0
	case errors.As(err, &permanent):
		s.failures = 0
		if s.queue.remove(number) {
			s.metrics.drop(reasonRejected, p)
		}
		s.logOnce(err)
		return 0
	}
	if s.failures == 0 {
		s.log.Warn("destination does not take profiles now; they are kept and sent again", "error", err)
	}
	s.failures++
	s.metrics.retries.Inc()
	if errors.As(err, &asked) {
		return min(asked.After, maxAsked) + jitter(s.failures)
	}
	return jitter(s.failures)
}

// jitter gives a random wait after so many failures in a row.
func jitter(failures int) time.Duration {
	limit := firstWait << min(failures, 10)
	return rand.N(min(limit, maxWait))
}

// sleep waits before the next attempt. The end of ctx cuts a wait short once;
// from then on waits are as long as a first one at most.
func (s *sender) sleep(ctx, sending context.Context, d time.Duration) {
	if d == 0 {
		return
	}
	running := ctx
	if ctx.Err() != nil {
		running, d = sending, min(d, firstWait)
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-running.Done():
	}
}

// abandon drops what is left when there is no more time.
func (s *sender) abandon() {
	left := s.queue.drain()
	if len(left) == 0 {
		return
	}
	var samples int64
	for _, p := range left {
		samples += p.Samples
		s.metrics.drop(reasonShutdown, p)
	}
	s.log.Warn("profiles were not sent before the end", "profiles", len(left), "samples", samples)
}

func (s *sender) logOnce(err error) {
	if _, known := s.reasons[err.Error()]; known || len(s.reasons) >= maxReasons {
		return
	}
	s.reasons[err.Error()] = struct{}{}
	s.log.Error("destination refuses what is sent; it is dropped", "error", err)
}
