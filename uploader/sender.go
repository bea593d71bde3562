// SPDX-License-Identifier: Apache-2.0

package uploader

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"time"

	"github.com/fleetprof/fleetprof/sample"
	"github.com/fleetprof/fleetprof/uploader/spool"
)

const (
	// The wait before attempt n is a random part of firstWait·2ⁿ, at most
	// maxWait ("full jitter"), so that agents do not come back all at once.
	// https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
	firstWait = 250 * time.Millisecond
	maxWait   = 30 * time.Second
	// maxAsked bounds the wait a destination may ask for.
	maxAsked = 5 * time.Minute
	// sendTimeout bounds one attempt, for destinations that have no bound of their own.
	sendTimeout = time.Minute
	// maxReasons bounds the reasons for dropping that are remembered so as to
	// be logged only once.
	maxReasons = 16
)

// sender empties the queue of one destination. Only run uses what is below the queue.
type sender struct {
	to      Destination
	most    int // attempts at a time
	flush   time.Duration
	log     *slog.Logger
	metrics *destinationMetrics
	queue   *queue
	spool   *spool.Spool // nil is memory only

	inFlight int
	failures int                 // attempts in a row that failed
	resume   <-chan time.Time    // ticks when the next attempt is due; nil is now
	ended    bool                // nothing is tried twice any more
	reasons  map[string]struct{} // for dropping, already logged
}

func newSender(d Destination, o Options, m *metrics) (*sender, error) {
	dm := m.of(d.String())
	s := &sender{
		to: d, most: 1, flush: o.FlushTimeout, log: o.Logger.With("destination", d.String()),
		metrics: dm, reasons: map[string]struct{}{},
	}
	if c, ok := d.(Concurrent); ok {
		s.most = max(1, c.Concurrency())
	}
	s.queue = newQueue(limits{memory: int64(o.QueueBytes), disk: o.SpoolBytes, age: o.SpoolAge}, dm)
	if o.SpoolDir != "" {
		s.open(filepath.Join(o.SpoolDir, spoolName(d)))
	}
	return s, m.observe(d, s.queue)
}

// open opens the spool with what an earlier run has left. Without one, all waits in memory.
func (s *sender) open(path string) {
	opened, records, err := spool.Open(path)
	if err != nil {
		s.metrics.spoolFails.Inc()
		s.log.Error("spool cannot be used; profiles wait in memory, and are lost when the agent ends", "error", err)
		return
	}
	s.spool, s.queue.spooling = opened, true
	if len(records) > 0 {
		s.log.Info("profiles of an earlier run wait in the spool", "profiles", len(records))
	}
	s.queue.recover(records, time.Now())
}

// run sends until ctx ends, beside a spooler that outlives the sending. What could not be
// sent stays on disk, or is dropped.
func (s *sender) run(ctx context.Context) {
	spooling, stop := context.WithCancel(context.WithoutCancel(ctx))
	var beside sync.WaitGroup
	if s.spool != nil {
		beside.Go(func() { newSpooler(s.spool, s.queue, s.log).run(spooling) })
	}
	s.send(ctx)
	stop()
	beside.Wait()
	s.part()
}

// send sends until ctx ends, and then what is left, for as long as a flush may take or
// until an attempt fails. The context of the attempts is another, so that what is under way
// is not cut off.
func (s *sender) send(ctx context.Context) {
	sending, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	cancel := context.AfterFunc(ctx, func() { time.AfterFunc(s.flush, stop) })
	defer cancel()
	outcomes, end, over := make(chan outcome), ctx.Done(), false
	for {
		for !over && s.begin(sending, outcomes) {
		}
		if s.ended && s.inFlight == 0 {
			return
		}
		select {
		case o := <-outcomes:
			s.inFlight--
			over = !s.judge(o) && o.last || over
		case <-s.resume:
			s.resume = nil
		case <-s.queue.ready:
		case <-end:
			end, s.ended, s.resume = nil, true, nil // the end cuts a wait short, once
		}
	}
}

// outcome is what became of an attempt.
type outcome struct {
	entry *entry
	last  bool // it was begun after the end
	err   error
}

// begin makes an attempt, if there is one to make. While a destination fails it gets one at a time.
func (s *sender) begin(ctx context.Context, outcomes chan<- outcome) bool {
	if s.resume != nil || s.inFlight >= s.most || s.failures > 0 && s.inFlight > 0 {
		return false
	}
	e, p := s.queue.take()
	if e == nil {
		return false
	}
	s.inFlight++
	last := s.ended
	go func() { outcomes <- outcome{e, last, s.attempt(ctx, e, p)} }()
	return true
}

// attempt sends one profile, which is in memory or on disk.
func (s *sender) attempt(ctx context.Context, e *entry, p *sample.Profile) error {
	if p == nil {
		read, err := s.spool.Read(e.record)
		if err != nil {
			return err
		}
		p = &read
	}
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	return s.to.Send(ctx, *p)
}

// judge decides what becomes of a profile after an attempt. It reports whether the next one may
// follow at once.
func (s *sender) judge(o outcome) bool {
	switch err := o.err; {
	case err == nil, errors.As(err, new(Incomplete)), errors.As(err, new(Partial)):
		if s.failures > 0 {
			s.log.Info("destination takes profiles again", "failed_attempts", s.failures)
		}
		s.failures = 0
		s.delivered(o.entry, err)
	case errors.As(err, new(Permanent)):
		s.failures = 0
		s.queue.finish(o.entry, s.metrics.dropped(rejected(err)))
		s.logOnce("destination refuses what is sent; it is dropped", err)
	case errors.Is(err, spool.ErrCorrupt):
		s.queue.finish(o.entry, s.metrics.dropped(reasonCorrupt))
		s.logOnce("spool is damaged; what cannot be read is dropped", err)
	default:
		s.queue.giveBack(o.entry)
		s.fail(err)
		return false
	}
	return true
}

// delivered takes out a profile that the destination has, maybe without some of it.
func (s *sender) delivered(e *entry, err error) {
	if errors.As(err, new(Incomplete)) {
		s.metrics.exemplarsDropped.Inc()
		s.logOnce("destination refuses exemplars; they are dropped", err)
	}
	var partial Partial
	if !errors.As(err, &partial) {
		s.queue.finish(e, s.metrics.sent)
		return
	}
	s.queue.finishPartly(e, s.metrics.sent, partial.Samples, s.metrics.dropped(rejected(err)))
	s.logOnce("destination refuses a part of what is sent; it is dropped", err)
}

// rejected is the reason for which what a destination refuses is counted.
func rejected(err error) string {
	var permanent Permanent
	if errors.As(err, &permanent) && permanent.Reason != "" {
		return reasonRejected + "_" + permanent.Reason
	}
	return reasonRejected
}

// fail has the next attempt wait. What failed at the same time counts once.
func (s *sender) fail(err error) {
	s.metrics.retries.Inc()
	if s.resume != nil || s.ended {
		return
	}
	if s.failures == 0 {
		s.log.Warn("destination does not take profiles now; they are kept and sent again", "error", err)
	}
	s.failures++
	wait := jitter(s.failures)
	var asked Retry
	if errors.As(err, &asked) {
		wait += min(asked.After, maxAsked)
	}
	s.resume = time.After(wait)
}

// jitter gives a random wait after so many failures in a row.
func jitter(failures int) time.Duration {
	limit := firstWait << min(failures, 10)
	return rand.N(min(limit, maxWait))
}

// part tells what could not be sent.
func (s *sender) part() {
	dropped, left := s.queue.abandon()
	if left.profiles > 0 {
		s.log.Info("profiles wait in the spool for the next start", "profiles", left.profiles, "samples", left.samples)
	}
	if dropped.profiles > 0 {
		s.log.Warn("profiles were not sent before the end", "profiles", dropped.profiles, "samples", dropped.samples)
	}
}

// logOnce logs an error, but not a second one of the same reason, or else the same text.
func (s *sender) logOnce(message string, err error) {
	key := err.Error()
	if reason := rejected(err); reason != reasonRejected {
		key = message + reason
	}
	if _, known := s.reasons[key]; known || len(s.reasons) >= maxReasons {
		return
	}
	s.reasons[key] = struct{}{}
	s.log.Error(message, "error", err)
}
