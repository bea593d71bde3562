// SPDX-License-Identifier: Apache-2.0

package uploader

import (
	"context"
	"log/slog"
	"time"

	"github.com/fleetprof/fleetprof/sample"
	"github.com/fleetprof/fleetprof/uploader/spool"
)

// syncEvery is how often what has come into a spool is made to outlive a loss of power, and
// how soon a disk that failed is tried again. What is sent within that time costs no sync.
const syncEvery = 5 * time.Second

// spooler moves the profiles of a queue to disk, and removes from there what is gone. It alone
// changes the spool, so that a disk that hangs holds up nobody else.
type spooler struct {
	spool   *spool.Spool
	queue   *queue
	log     *slog.Logger
	failing map[string]bool // by what was tried
}

func newSpooler(s *spool.Spool, q *queue, log *slog.Logger) *spooler {
	return &spooler{spool: s, queue: q, log: log, failing: make(map[string]bool)}
}

// run goes on until ctx ends, and then once more.
func (s *spooler) run(ctx context.Context) {
	defer s.queue.endSpooling()
	tick := time.NewTicker(syncEvery)
	defer tick.Stop()
	for {
		s.work()
		select {
		case <-s.queue.changed:
		case <-tick.C:
			s.sync()
		case <-ctx.Done():
			s.work()
			return
		}
	}
}

// work does all there is to do. It ends at the first error: then the disk wants time.
func (s *spooler) work() {
	for {
		garbage, e, p := s.queue.next()
		for i, r := range garbage {
			if !s.judge("remove", s.spool.Remove(r)) {
				s.queue.keepGarbage(garbage[i:])
				return
			}
		}
		if e == nil {
			return
		}
		r, err := s.spool.Write(p)
		s.queue.written(e, r, err)
		if !s.judge("write", err) {
			return
		}
	}
}

func (s *spooler) sync() {
	if entries, records := s.queue.unsynced(); len(records) > 0 && s.judge("sync", s.spool.Sync(records)) {
		s.queue.markSynced(entries)
	}
}

// judge counts errors, and tells of the first one and of their end.
func (s *spooler) judge(operation string, err error) (ok bool) {
	if err != nil {
		s.queue.metrics.spoolFails.Inc()
	}
	switch failed := s.failing[operation]; {
	case err != nil && !failed:
		s.log.Error("spool fails; profiles that it does not take wait in memory", "operation", operation, "error", err)
	case err == nil && failed:
		s.log.Info("spool works again", "operation", operation)
	}
	s.failing[operation] = err != nil
	return err == nil
}

// endSpooling lets go whoever waits for a spooler.
func (q *queue) endSpooling() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.spooling = false
	for _, e := range q.items {
		e.settle()
	}
}

// next gives what is to be removed from the disk, and then an entry to be written; nil if there
// is none. Room is made for it, so it is removed first what made room.
func (q *queue) next() (garbage []spool.Record, e *entry, p sample.Profile) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, i := range q.items {
		if i.inMemory() && !i.gone && i.bytes <= q.limits.disk {
			e, p = i, *i.profile
			q.makeRoom(e.bytes)
			break
		}
	}
	garbage, q.garbage = q.garbage, nil
	return garbage, e, p
}

func (q *queue) keepGarbage(records []spool.Record) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.garbage = append(q.garbage, records...)
}

// written says that an entry is on disk now, or that it cannot be.
func (q *queue) written(e *entry, r spool.Record, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	e.settle()
	switch {
	case err != nil:
	case e.gone: // it was sent in the meantime
		q.garbage = append(q.garbage, r)
	default:
		q.hold(e, -1)
		e.profile, e.record, e.bytes = nil, r, r.Bytes
		q.hold(e, 1)
	}
}

// unsynced gives what waits on disk and may not outlive a loss of power.
func (q *queue) unsynced() (entries []*entry, records []spool.Record) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, e := range q.items {
		if e.onDisk() && !e.gone && !e.synced {
			entries, records = append(entries, e), append(records, e.record)
		}
	}
	return entries, records
}

func (q *queue) markSynced(entries []*entry) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, e := range entries {
		e.synced = true
	}
}
