// SPDX-License-Identifier: Apache-2.0

package query

import (
	"container/list"
	"context"
	"sync"
)

const (
	// maxWaiting bounds the queries of one client that wait for their turn, maxWaitingAll
	// those of all.
	maxWaiting    = 64
	maxWaitingAll = 1024
)

// turns lets some queries run at a time, the first to come first, of each client at most half
// of them: so whoever asks too much has others wait for no more than one of their own. It is
// safe for concurrent use.
type turns struct {
	all, each int // that may run

	mu      sync.Mutex
	running int
	clients map[string]*client
	waiting *list.List // of *waiter
}

// client is one that has queries running or waiting.
type client struct{ running, waiting int }

type waiter struct {
	of    *client
	begun chan struct{} // closed when it is its turn
}

func newTurns(all int) *turns {
	return &turns{all: all, each: (all + 1) / 2, clients: map[string]*client{}, waiting: list.New()}
}

// begin waits for a turn, which end ends.
func (t *turns) begin(ctx context.Context, name string) (end func(), err error) {
	t.mu.Lock()
	c := t.clients[name]
	if c == nil {
		c = &client{}
	}
	switch {
	case t.running < t.all && c.running < t.each:
		t.clients[name] = c
		t.start(c)
		t.mu.Unlock()
		return func() { t.end(name, c) }, nil
	case c.waiting >= maxWaiting:
		t.mu.Unlock()
		return nil, errTooMany
	case t.waiting.Len() >= maxWaitingAll:
		t.mu.Unlock()
		return nil, errBusy
	}
	t.clients[name] = c
	c.waiting++
	w := &waiter{c, make(chan struct{})}
	at := t.waiting.PushBack(w)
	t.mu.Unlock()
	select {
	case <-w.begun:
		return func() { t.end(name, c) }, nil
	case <-ctx.Done():
		return nil, t.leave(ctx, name, at)
	}
}

// leave is of a query whose time is over before its turn came.
func (t *turns) leave(ctx context.Context, name string, at *list.Element) error {
	w := at.Value.(*waiter)
	t.mu.Lock()
	select {
	case <-w.begun: // at the same moment
		t.mu.Unlock()
		t.end(name, w.of)
		return ctx.Err()
	default:
	}
	t.waiting.Remove(at)
	w.of.waiting--
	t.forget(name, w.of)
	t.mu.Unlock()
	return ctx.Err()
}

func (t *turns) start(c *client) {
	t.running++
	c.running++
}

// end lets the next one begin whose client may have one more.
func (t *turns) end(name string, c *client) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.running--
	c.running--
	t.forget(name, c)
	for at := t.waiting.Front(); at != nil && t.running < t.all; at = at.Next() {
		w := at.Value.(*waiter)
		if w.of.running >= t.each {
			continue
		}
		t.waiting.Remove(at)
		w.of.waiting--
		t.start(w.of)
		close(w.begun)
		return
	}
}

func (t *turns) forget(name string, c *client) {
	if c.running+c.waiting == 0 {
		delete(t.clients, name)
	}
}

// counts are how many run and wait.
func (t *turns) counts() (running, waiting int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.running, t.waiting.Len()
}
