// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/fleetprof/fleetprof/server/columns"
	"github.com/fleetprof/fleetprof/server/store/block"
)

// IDOf is the id of a profile that has none of its own: the first half of the SHA-256
// of the bytes in which it came.
func IDOf(body []byte) (id [16]byte) {
	sum := sha256.Sum256(body)
	copy(id[:], sum[:])
	return id
}

// appending is a profile on its way into the store.
type appending struct {
	profile *columns.Profile
	id      [16]byte
	stored  int64
	record  []byte
	done    bool
	err     error
}

// Append stores a profile. When it returns nil the profile is on disk for good, and
// queries see it. A profile with an id that was stored in the last 24 hours is stored
// already, so a sender that missed the answer may simply repeat itself.
//
// Errors that wrap ErrFull or ErrClosed may pass; one that wraps ErrRefused is final.
// After an error nothing is stored, except that a profile may be there when the machine
// broke down amid it. Profiles appended at the same time share one sync of the disk. ctx
// counts until the writing begins.
func (s *Store) Append(ctx context.Context, p *columns.Profile, id [16]byte) error {
	now := time.Now()
	a := &appending{profile: p, id: id, stored: now.UnixMilli(), record: s.codec.encode(p, id, now.UnixMilli())}
	if err := s.check(a, now); err != nil {
		return err
	}
	if err := s.makeRoom(ctx); err != nil {
		s.metrics.failed.Inc()
		return fmt.Errorf("store profile: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	s.queueMu.Lock()
	s.queue = append(s.queue, a)
	s.queueMu.Unlock()
	s.commit.Lock()
	if !a.done { // by whoever had the lock before
		s.commitQueue()
	}
	s.commit.Unlock()
	if a.err != nil {
		s.metrics.failed.Inc()
		return fmt.Errorf("store profile: %w", a.err)
	}
	return nil
}

func (s *Store) check(a *appending, now time.Time) error {
	end := time.Unix(0, a.profile.Start+a.profile.Duration)
	switch {
	case int64(len(a.record)) > s.maxBytes:
		return fmt.Errorf("%w: it takes %d bytes and the store may hold %d", ErrRefused, len(a.record), s.maxBytes)
	case end.Before(now.Add(-s.maxAge)):
		return fmt.Errorf("%w: it ends at %s and the store keeps %v", ErrRefused, end.UTC().Format(time.RFC3339), s.maxAge)
	}
	return nil
}

// makeRoom seals the head when that is overdue, because Run is behind or the disk was
// full. The head must not grow without bounds.
func (s *Store) makeRoom(ctx context.Context) error {
	s.mu.Lock()
	overdue := s.head.rows >= 2*maxHeadRows || s.head.size() >= 2*maxHeadBytes
	s.mu.Unlock()
	if !overdue {
		return nil
	}
	return s.seal(ctx)
}

// commitQueue stores all that waits. The lock commit is held.
func (s *Store) commitQueue() {
	s.queueMu.Lock()
	batch := s.queue
	s.queue = nil
	s.queueMu.Unlock()
	var fresh []*appending
	var records [][]byte
	first := map[[16]byte]*appending{}
	s.mu.Lock()
	closed := s.closed
	for _, a := range batch {
		if s.ids.has(a.id) {
			s.metrics.duplicates.Inc()
			continue
		}
		if first[a.id] == nil {
			first[a.id] = a
			fresh, records = append(fresh, a), append(records, a.record)
		}
	}
	s.mu.Unlock()
	var err error
	switch {
	case closed:
		err = ErrClosed
	case len(fresh) > 0:
		err = s.writeRecords(records)
	}
	if err == nil {
		s.enter(fresh)
	}
	for _, a := range batch {
		a.done = true
		if f := first[a.id]; f != nil {
			a.err = err
			if f != a && err == nil {
				s.metrics.duplicates.Inc()
			}
		}
	}
}

// writeRecords writes records to the log, and begins a new one when there is none or
// the last one has failed.
func (s *Store) writeRecords(records [][]byte) error {
	if s.writer == nil {
		if err := s.beginLog(); err != nil {
			return fullOr(err)
		}
	}
	if err := s.writer.Append(records...); err != nil {
		s.endLog()
		return fullOr(err)
	}
	return nil
}

// enter puts profiles that are in the log into the head.
func (s *Store) enter(all []*appending) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range all {
		s.head.add(a.profile, a.id, a.stored)
		s.remember(block.ID{ID: a.id, Stored: a.stored})
		s.metrics.stored.Inc()
	}
	if s.writer != nil {
		l := s.logs[s.head.log]
		s.head.logBytes += s.writer.Size() - l.bytes
		l.bytes = s.writer.Size()
		s.logs[s.head.log] = l
	}
	if s.head.due(time.Now(), s.maxBytes) {
		select {
		case s.wake <- struct{}{}:
		default: // it is awake
		}
	}
}

// remember keeps ids; the lock mu is held.
func (s *Store) remember(ids ...block.ID) {
	s.metrics.forgotten.Add(float64(s.ids.add(ids...)))
}
