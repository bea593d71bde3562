// SPDX-License-Identifier: Apache-2.0

package access

import (
	"container/list"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// maxAccounts bounds the accounts of one kind, some 200 bytes each.
const maxAccounts = 8192

// accounts are token buckets by key. An account with at least one in it may be overdrawn by
// what is taken, and then waits until it has one again: so what something costs need not
// be known before. Of too many, the one that was used the longest time ago is
// forgotten, and is full when it comes again. nil has no limit. Safe for concurrent
// use.
type accounts struct {
	rate, burst float64 // a second, and at most
	forgotten   prometheus.Counter

	mu     sync.Mutex
	byKey  map[string]*list.Element // of *account
	recent list.List                // the last one used first
}

type account struct {
	key   string
	level float64
	at    time.Time // when it had that level
}

func newAccounts(rate, burst float64, forgotten prometheus.Counter) *accounts {
	return &accounts{rate: rate, burst: burst, forgotten: forgotten, byKey: make(map[string]*list.Element)}
}

// take takes so much if the account has one; else it takes nothing and gives the time
// until it has.
func (a *accounts) take(key string, amount float64, now time.Time) (wait time.Duration) {
	if a == nil {
		return 0
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	one := a.current(key, now)
	if one.level < 1 {
		return max(time.Millisecond, time.Duration((1-one.level)/a.rate*float64(time.Second)))
	}
	one.level -= amount
	return 0
}

// wait is the time until the account has one.
func (a *accounts) wait(key string, now time.Time) time.Duration { return a.take(key, 0, now) }

// charge takes so much, whatever is there.
func (a *accounts) charge(key string, amount float64, now time.Time) {
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.current(key, now).level -= amount
}

// current is an account as it stands now.
func (a *accounts) current(key string, now time.Time) *account {
	e, ok := a.byKey[key]
	if !ok {
		if a.recent.Len() >= maxAccounts {
			oldest := a.recent.Remove(a.recent.Back()).(*account)
			delete(a.byKey, oldest.key)
			a.forgotten.Inc()
		}
		e = a.recent.PushFront(&account{key: key, level: a.burst, at: now})
		a.byKey[key] = e
	}
	a.recent.MoveToFront(e)
	one := e.Value.(*account)
	if since := now.Sub(one.at); since > 0 {
		one.level, one.at = min(a.burst, one.level+since.Seconds()*a.rate), now
	}
	return one
}

func (a *accounts) len() int {
	if a == nil {
		return 0
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.recent.Len()
}
