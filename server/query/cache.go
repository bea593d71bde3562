// SPDX-License-Identifier: Apache-2.0

package query

import (
	"container/list"
	"sync"

	"golang.org/x/sync/singleflight"
)

// caches are what is kept of blocks. Pages of stacks are among the symbols.
type caches struct{ indexes, symbols *cache }

// held is the number of bytes in both.
func (c caches) held() int64 { return c.indexes.held() + c.symbols.held() }

// cache keeps something of the blocks used last, by their names, within a bound of bytes.
// It is safe for concurrent use; what is in it is never changed.
type cache struct {
	max   int64
	reads singleflight.Group // by block

	mu    sync.Mutex
	bytes int64
	byUse *list.List // of *cached, the one used last in front
	items map[string]*list.Element
}

// entryBytes is about what an entry takes besides what it keeps and its name, which may be anybody's text.
const entryBytes = 200

type cached struct {
	block string
	value any
	size  int64
}

func newCache(maxBytes int64) *cache {
	return &cache{max: maxBytes, byUse: list.New(), items: map[string]*list.Element{}}
}

// get gives nil for what is not there.
func (c *cache) get(block string) any {
	c.mu.Lock()
	defer c.mu.Unlock()
	item, ok := c.items[block]
	if !ok {
		return nil
	}
	c.byUse.MoveToFront(item)
	return item.Value.(*cached).value
}

func (c *cache) put(block string, value any, size int64) {
	size += int64(len(block)) + entryBytes
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.items[block]; ok || size > c.max {
		return
	}
	c.items[block] = c.byUse.PushFront(&cached{block, value, size})
	c.bytes += size
	for c.bytes > c.max {
		last := c.byUse.Back()
		old := c.byUse.Remove(last).(*cached)
		delete(c.items, old.block)
		c.bytes -= old.size
	}
}

// held is the number of bytes in the cache.
func (c *cache) held() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.bytes
}
