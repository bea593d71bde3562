// SPDX-License-Identifier: Apache-2.0

package uploader

import (
	"sync"
	"time"

	"github.com/fleetprof/fleetprof/sample"
	"github.com/fleetprof/fleetprof/uploader/spool"
)

// entryBytes is what a profile in memory takes besides its encoded forms, about.
const entryBytes = 128

// entry is a profile in a queue: in memory, or on disk, and then profile is nil.
type entry struct {
	samples int64
	// since is when it was handed over. What this process was handed has a monotonic
	// reading, so that setting the clock makes nothing old.
	since   time.Time
	bytes   int64 // that it takes where it is
	profile *sample.Profile
	record  spool.Record

	sending, gone bool
	// synced says that it outlives a loss of power.
	synced bool
	// settled is closed once the spool had its try at the entry; nil if nobody waits.
	settled chan struct{}
}

// limits of a queue. Beyond them the oldest profiles go, but never those that are being sent.
type limits struct {
	memory, disk int64 // bytes; disk is 0 without a spool
	age          time.Duration
}

// queue has what waits for one destination, oldest first. A sender takes entries and says
// what became of them; a spooler moves them from memory to disk. It counts every profile, so that
// at any instant in + recovered = sent + dropped + waiting.
type queue struct {
	limits  limits
	metrics *destinationMetrics
	ready   chan struct{} // holds a token while there may be something to take
	changed chan struct{} // the same for the spooler

	mu       sync.Mutex
	items    []*entry // those at the front are not gone
	held     waiting  // but for oldest
	spooling bool     // whether a spooler is, or will be, at work
	garbage  []spool.Record
}

// waiting is what waits in a queue.
type waiting struct {
	profiles, samples, memory, disk int64
	oldest                          time.Duration
}

func newQueue(l limits, m *destinationMetrics) *queue {
	return &queue{limits: l, metrics: m, ready: make(chan struct{}, 1), changed: make(chan struct{}, 1)}
}

// wake leaves a token in a channel that has room for one.
func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// recover takes over what an earlier run has left on disk, before anything is put in.
func (q *queue) recover(records []spool.Record, now time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, r := range records {
		// The wall clock may have been set in between; what seems to come from the future is new.
		since := now.Add(-max(0, now.Sub(r.Written)))
		q.metrics.recovered.add(r.Samples)
		q.add(&entry{samples: r.Samples, since: since, record: r, bytes: r.Bytes, synced: true})
	}
	q.expire(now)
	q.makeRoom(0)
}

// put adds p. The channel it gives is closed when the spool had its try at it; nil is
// not to be waited for.
func (q *queue) put(p sample.Profile, now time.Time) (settled <-chan struct{}) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.metrics.in.add(p.Samples)
	e := &entry{samples: p.Samples, since: now, profile: &p, bytes: int64(len(p.PProf) + len(p.Exemplars) + entryBytes)}
	if e.bytes > q.limits.memory {
		q.metrics.dropped(reasonQueueFull).add(e.samples)
		return nil
	}
	if q.spooling && e.bytes <= q.limits.disk {
		e.settled = make(chan struct{})
		settled = e.settled
	}
	q.add(e)
	q.expire(now)
	for q.held.memory > q.limits.memory && q.dropOldest(reasonQueueFull, (*entry).inMemory) {
	}
	wake(q.ready)
	wake(q.changed)
	return settled
}

func (e *entry) inMemory() bool { return e.profile != nil }
func (e *entry) onDisk() bool   { return e.profile == nil }

// add appends an entry. Like all below that says nothing else, it is for holders of the lock.
func (q *queue) add(e *entry) {
	q.items = append(q.items, e)
	q.held.profiles++
	q.held.samples += e.samples
	q.hold(e, 1)
}

// hold counts the bytes of an entry in or out.
func (q *queue) hold(e *entry, sign int64) {
	if e.inMemory() {
		q.held.memory += sign * e.bytes
	} else {
		q.held.disk += sign * e.bytes
	}
}

// expire drops what has waited for too long.
func (q *queue) expire(now time.Time) {
	for q.dropOldest(reasonTooOld, func(e *entry) bool { return now.Sub(e.since) > q.limits.age }) {
	}
}

// makeRoom drops the oldest on disk until so many bytes fit.
func (q *queue) makeRoom(bytes int64) {
	for q.held.disk+bytes > q.limits.disk && q.dropOldest(reasonSpoolFull, (*entry).onDisk) {
	}
}

// dropOldest drops the oldest of those that may go, if there is one.
func (q *queue) dropOldest(reason string, may func(*entry) bool) bool {
	for _, e := range q.items {
		if !e.gone && !e.sending && may(e) {
			q.metrics.dropped(reason).add(e.samples)
			q.remove(e)
			return true
		}
	}
	return false
}

// remove takes out an entry that has been counted.
func (q *queue) remove(e *entry) {
	q.held.profiles--
	q.held.samples -= e.samples
	q.hold(e, -1)
	if e.onDisk() {
		q.garbage = append(q.garbage, e.record)
		wake(q.changed)
	}
	e.gone, e.profile = true, nil
	e.settle()
	for len(q.items) > 0 && q.items[0].gone {
		q.items[0] = nil
		q.items = q.items[1:]
	}
}

func (e *entry) settle() {
	if e.settled != nil {
		close(e.settled)
		e.settled = nil
	}
}

// take gives the oldest entry that is not being sent. p is nil if it is on disk. The
// caller gives it back or has it finished.
func (q *queue) take() (e *entry, p *sample.Profile) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, e := range q.items {
		if !e.gone && !e.sending {
			e.sending = true
			return e, e.profile
		}
	}
	return nil, nil
}

// giveBack has an entry taken again.
func (q *queue) giveBack(e *entry) {
	q.mu.Lock()
	defer q.mu.Unlock()
	e.sending = false
}

// finish takes out an entry that was taken, and counts it.
func (q *queue) finish(e *entry, as count) {
	q.mu.Lock()
	defer q.mu.Unlock()
	as.add(e.samples)
	q.remove(e)
}

// finishPartly is finish for one of which so many samples were refused.
func (q *queue) finishPartly(e *entry, as count, samples int64, refused count) {
	q.mu.Lock()
	defer q.mu.Unlock()
	samples = min(max(samples, 0), e.samples)
	as.add(e.samples - samples)
	refused.samples.Add(float64(samples))
	q.remove(e)
}

// abandon drops what is in memory when there is no more time, and says what is left.
func (q *queue) abandon() (dropped, left waiting) {
	q.mu.Lock()
	defer q.mu.Unlock()
	before := q.held
	for q.dropOldest(reasonShutdown, (*entry).inMemory) {
	}
	dropped = waiting{profiles: before.profiles - q.held.profiles, samples: before.samples - q.held.samples}
	return dropped, q.held
}

func (q *queue) waiting() waiting {
	q.mu.Lock()
	defer q.mu.Unlock()
	w := q.held
	if len(q.items) > 0 {
		w.oldest = max(0, time.Since(q.items[0].since))
	}
	return w
}
