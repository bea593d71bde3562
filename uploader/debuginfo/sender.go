// SPDX-License-Identifier: Apache-2.0

package debuginfo

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/fleetprof/fleetprof/uploader"
)

const (
	// askPause is the time between one file and the next.
	askPause = 250 * time.Millisecond
	// busyPause is when to ask again for what another host is sending, and as much again at random: doubled
	// each time, at most maxDoubled times, as thousands of hosts may wait for one.
	busyPause  = time.Minute
	maxDoubled = 3
	// restAtFirst and restAtMost are how long a store is left alone that does not answer as it should,
	// doubled each time; half of it is at random.
	restAtFirst = 10 * time.Second
	restAtMost  = 15 * time.Minute
	// maxAsked bounds the rest that a store may ask for.
	maxAsked = time.Hour
)

// pauses are these times; tests have shorter ones.
type pauses struct{ ask, busy, first, most time.Duration }

// entry is a file that waits for a store.
type entry struct {
	*item
	due time.Time
}

// sender sends to one store.
type sender struct {
	to      Destination
	log     *slog.Logger
	metrics *metrics
	pauses  pauses
	changed chan struct{} // something was added

	mu      sync.Mutex
	waiting []entry
	active  int // 1 while a file is asked for or sent
	closed  bool

	// Run's own: failures in a row, until when the store is left alone, and how often another host
	// was sending a file that waits.
	failures int
	rests    time.Time
	busy     map[*item]int
}

func newSender(to Destination, u *Uploader, log *slog.Logger) *sender {
	return &sender{
		to: to, log: log.With("destination", to.String()), metrics: u.metrics, changed: make(chan struct{}, 1), busy: make(map[*item]int),
		pauses: pauses{askPause, busyPause, restAtFirst, restAtMost},
	}
}

// add has a file wait until it is due.
func (s *sender) add(i *item, due time.Time) bool {
	if !s.enqueue(i, due) {
		s.metrics.count(s.to, resultFull)
		i.done()
		return false
	}
	select {
	case s.changed <- struct{}{}:
	default: // it looks anyway
	}
	return true
}

func (s *sender) enqueue(i *item, due time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || len(s.waiting) >= maxWaiting {
		return false
	}
	s.waiting = append(s.waiting, entry{i, due})
	return true
}

func (s *sender) waits() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.waiting) + s.active
}

// run sends until ctx ends.
func (s *sender) run(ctx context.Context) {
	for {
		i := s.next(ctx)
		if i == nil {
			return
		}
		s.serve(ctx, i)
		sleep(ctx, s.pauses.ask)
	}
}

// next waits for the file that is due first; it is nil when ctx ends.
func (s *sender) next(ctx context.Context) *item {
	for ctx.Err() == nil {
		i, wait := s.take(time.Now())
		if i != nil {
			return i
		}
		t := time.NewTimer(wait)
		select {
		case <-s.changed:
		case <-t.C:
		case <-ctx.Done():
		}
		t.Stop()
	}
	return nil
}

// take takes the file that is due first, or tells when that is.
func (s *sender) take(now time.Time) (*item, time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.waiting) == 0 {
		return nil, time.Hour
	}
	first := 0
	for i, e := range s.waiting {
		if e.due.Before(s.waiting[first].due) {
			first = i
		}
	}
	e := s.waiting[first]
	if wait := max(e.due.Sub(now), s.rests.Sub(now)); wait > 0 {
		return nil, wait
	}
	last := len(s.waiting) - 1
	s.waiting[first], s.waiting[last] = s.waiting[last], entry{}
	s.waiting, s.active = s.waiting[:last], 1
	return e.item, 0
}

// serve asks for one file, and sends it if it is wanted.
func (s *sender) serve(ctx context.Context, i *item) {
	standing, err := s.to.Ask(ctx, i.buildID)
	result := resultPresent
	if err == nil && standing == Wanted {
		result = resultUploaded
		standing, err = s.send(ctx, i)
	}
	switch {
	case ctx.Err() != nil:
		s.again(i, time.Now())
	case err == nil && standing == Present:
		s.finish(i, result)
	case err == nil && standing == Unwanted:
		s.finish(i, resultUnwanted)
	case err == nil:
		s.succeed()
		pause := s.pauses.busy << min(s.busy[i], maxDoubled)
		s.busy[i]++
		s.again(i, time.Now().Add(pause+jitter(pause)))
	default:
		s.fail(i, err)
	}
}

func (s *sender) send(ctx context.Context, i *item) (Standing, error) {
	content, release, err := i.use(ctx)
	if err != nil {
		return Wanted, &unusable{err}
	}
	defer release()
	c := *content
	c.sent = func(n int) { s.metrics.bytes.WithLabelValues(s.to.String()).Add(float64(n)) }
	return s.to.Send(ctx, i.buildID, &c)
}

// unusable marks an error of the file, which is no fault of the store.
type unusable struct{ error }

func (u *unusable) Unwrap() error { return u.error }

// fail judges an error.
func (s *sender) fail(i *item, err error) {
	switch {
	case errors.As(err, new(*unusable)), errors.Is(err, errContent):
		s.log.Debug("debug information is not sent", "object_path", i.object.Path, "build_id", i.buildID, "error", err)
		s.finish(i, resultOf(err))
	case errors.As(err, new(uploader.Permanent)):
		s.log.Warn("store refuses debug information; it is not sent again", "object_path", i.object.Path, "build_id", i.buildID, "error", err)
		s.finish(i, resultRefused)
	default:
		s.metrics.retries.WithLabelValues(s.to.String()).Inc()
		if s.failures == 0 {
			s.log.Warn("store does not take debug information now; it is sent later", "build_id", i.buildID, "error", err)
		}
		rest := min(s.pauses.first<<min(s.failures, 10), s.pauses.most)
		rest = rest/2 + jitter(rest/2)
		var asked uploader.Retry
		if errors.As(err, &asked) {
			rest = max(rest, min(asked.After, maxAsked)+jitter(s.pauses.first))
		}
		s.failures++
		s.rests = time.Now().Add(rest)
		s.again(i, s.rests)
	}
}

func (s *sender) succeed() {
	if s.failures > 0 {
		s.log.Info("store takes debug information again", "failed_attempts", s.failures)
	}
	s.failures = 0
}

// again has a file wait once more.
func (s *sender) again(i *item, due time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting, s.active = append(s.waiting, entry{i, due}), 0
}

// finish is done with a file.
func (s *sender) finish(i *item, result string) {
	s.succeed()
	delete(s.busy, i)
	s.metrics.count(s.to, result)
	s.mu.Lock()
	s.active = 0
	s.mu.Unlock()
	i.done()
	if result == resultGone { // another program may have it open
		i.owner.forget(i.buildID)
	}
}

// abandon lets go of all that waits.
func (s *sender) abandon() {
	s.mu.Lock()
	left := s.waiting
	s.waiting, s.closed = nil, true
	s.mu.Unlock()
	for _, e := range left {
		e.done()
	}
}

// jitter is a random time of at most d.
func jitter(d time.Duration) time.Duration { return rand.N(max(d, 1)) }

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
