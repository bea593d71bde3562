// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"container/list"
	"sync"
	"time"

	"github.com/fleetprof/fleetprof/wire"
)

const (
	// maxSessionMemory bounds the memory of all sessions together, in bytes. That of a
	// busy host takes 1 to 4 MiB.
	maxSessionMemory = 256 << 20
	// idleAfter is when a session may give way to others: its agent missed several
	// windows. One in use never gives way: with more agents than there is room for, all of
	// them would lose theirs in turn before each next push.
	idleAfter = time.Minute
	// goneAfter is when a session is forgotten in any case.
	goneAfter = 15 * time.Minute
)

// sessions is what is remembered of the sessions of agents, the most recently used first.
// It is safe for concurrent use.
type sessions struct {
	metrics *metrics
	max     int64

	mu    sync.Mutex
	bytes int64
	known map[wire.ID]*list.Element
	order list.List // of *session
}

// session is one of them. Whoever uses it holds its lock.
type session struct {
	sync.Mutex
	wire.Session

	// The following are under the lock of sessions.
	id   wire.ID
	used time.Time
	size int64
}

func newSessions(m *metrics, most int64) *sessions {
	return &sessions{metrics: m, max: most, known: map[wire.ID]*list.Element{}}
}

// open gives a session, if it is known or is to begin.
func (x *sessions) open(id wire.ID, begin bool, now time.Time) (*session, bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	at, ok := x.known[id]
	if !ok {
		if !begin {
			return nil, false
		}
		at = x.order.PushFront(&session{id: id})
		x.known[id] = at
		x.metrics.sessions.Inc()
	}
	x.order.MoveToFront(at)
	s := at.Value.(*session)
	s.used = now
	return s, true
}

// settle takes account of how large a session has become, and makes room.
func (x *sessions) settle(s *session, size int64, now time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	at, ok := x.known[s.id]
	if !ok || at.Value.(*session) != s {
		return // it had to give way meanwhile
	}
	x.hold(size - s.size)
	s.size = size
	for last := x.order.Back(); last != at; last = x.order.Back() {
		reason := x.givesWay(last.Value.(*session), now)
		if reason == "" {
			break
		}
		x.forget(last, reason)
	}
	if x.bytes > x.max {
		x.forget(at, "refused")
	}
}

// givesWay says why a session is to be forgotten, if it is. The caller holds the lock.
func (x *sessions) givesWay(s *session, now time.Time) (reason string) {
	switch idle := now.Sub(s.used); {
	case idle > goneAfter:
		return "idle"
	case idle > idleAfter && x.bytes > x.max:
		return "evicted"
	}
	return ""
}

// forget drops a session. The caller holds the lock.
func (x *sessions) forget(at *list.Element, reason string) {
	s := x.order.Remove(at).(*session)
	delete(x.known, s.id)
	x.hold(-s.size)
	x.metrics.sessions.Dec()
	x.metrics.sessionsEnded.WithLabelValues(reason).Inc()
}

// hold counts bytes in or out. The caller holds the lock.
func (x *sessions) hold(bytes int64) {
	x.bytes += bytes
	x.metrics.sessionBytes.Add(float64(bytes))
}
