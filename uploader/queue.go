// SPDX-License-Identifier: Apache-2.0

package uploader

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fleetprof/fleetprof/sample"
)

// entryBytes is what a queued profile takes besides its encoded forms, about.
const entryBytes = 128

// queue holds profiles within a bound of bytes, oldest first. One goroutine
// takes them out; any number puts them in. A profile being sent stays at the
// head, unless the queue needs its room.
type queue struct {
	max   int
	gauge prometheus.Gauge // of the bytes held
	ready chan struct{}    // holds a token while there may be something to take

	mu    sync.Mutex
	items []sample.Profile
	bytes int
	first uint64 // the number of items[0]; numbers are never used twice
}

func newQueue(maxBytes int, gauge prometheus.Gauge) *queue {
	return &queue{max: maxBytes, gauge: gauge, ready: make(chan struct{}, 1)}
}

func size(p sample.Profile) int { return len(p.PProf) + len(p.Exemplars) + entryBytes }

// put adds p, and gives what had to be dropped for it; that may be p itself.
func (q *queue) put(p sample.Profile) (dropped []sample.Profile) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if size(p) > q.max {
		return []sample.Profile{p}
	}
	q.items = append(q.items, p)
	q.hold(size(p))
	for q.bytes > q.max {
		dropped = append(dropped, q.pop())
	}
	select {
	case q.ready <- struct{}{}:
	default:
	}
	return dropped
}

// pop takes out the oldest. The caller holds the lock.
func (q *queue) pop() sample.Profile {
	p := q.items[0]
	q.items[0] = sample.Profile{}
	q.items = q.items[1:]
	q.hold(-size(p))
	q.first++
	return p
}

// hold counts bytes in or out. The caller holds the lock.
func (q *queue) hold(bytes int) {
	q.bytes += bytes
	q.gauge.Add(float64(bytes))
}

// head gives the oldest profile and its number, and leaves it in.
func (q *queue) head() (p sample.Profile, number uint64, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.items) == 0 {
		return sample.Profile{}, 0, false
	}
	return q.items[0], q.first, true
}

// remove takes out the profile of that number. It reports false if it had been
// dropped before.
func (q *queue) remove(number uint64) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.items) == 0 || q.first != number {
		return false
	}
	q.pop()
	return true
}

// drain takes out everything.
func (q *queue) drain() []sample.Profile {
	q.mu.Lock()
	defer q.mu.Unlock()
	var all []sample.Profile
	for len(q.items) > 0 {
		all = append(all, q.pop())
	}
	return all
}
