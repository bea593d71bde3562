// SPDX-License-Identifier: Apache-2.0

package query

import (
	"container/list"
	"sync"

	"github.com/fleetprof/fleetprof/server/store"
)

// cache keeps the decoded profiles used last, within a bound of bytes. It is
// safe for concurrent use; the profiles are never changed.
type cache struct {
	max int64

	mu    sync.Mutex
	bytes int64
	byUse *list.List // of *cached, the one used last in front
	items map[store.Entry]*list.Element
}

type cached struct {
	entry   store.Entry
	profile *hashed
	size    int64
}

func newCache(maxBytes int64) *cache {
	return &cache{max: maxBytes, byUse: list.New(), items: map[store.Entry]*list.Element{}}
}

// get gives nil for what is not there.
func (c *cache) get(e store.Entry) *hashed {
	c.mu.Lock()
	defer c.mu.Unlock()
	item, ok := c.items[e]
	if !ok {
		return nil
	}
	c.byUse.MoveToFront(item)
	return item.Value.(*cached).profile
}

func (c *cache) put(e store.Entry, p *hashed) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.items[e]; ok {
		return
	}
	add := &cached{e, p, p.Size()}
	if add.size > c.max {
		return
	}
	c.items[e] = c.byUse.PushFront(add)
	c.bytes += add.size
	for c.bytes > c.max {
		last := c.byUse.Back()
		old := c.byUse.Remove(last).(*cached)
		delete(c.items, old.entry)
		c.bytes -= old.size
	}
}

// held is the number of bytes in the cache.
func (c *cache) held() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.bytes
}
