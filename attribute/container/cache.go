// SPDX-License-Identifier: Apache-2.0

package container

import "container/list"

// cache remembers a bounded number of cgroups and forgets the least recently
// used. It is not safe for concurrent use.
type cache struct {
	size    int
	byID    map[uint64]*list.Element
	recency list.List // of entry, the most recently used first
}

func newCache(size int) *cache {
	return &cache{size: size, byID: make(map[uint64]*list.Element)}
}

func (c *cache) get(id uint64) (entry, bool) {
	element := c.byID[id]
	if element == nil {
		return entry{}, false
	}
	c.recency.MoveToFront(element)
	return element.Value.(entry), true
}

func (c *cache) put(e entry) {
	if element := c.byID[e.id]; element != nil {
		element.Value = e
		c.recency.MoveToFront(element)
		return
	}
	c.byID[e.id] = c.recency.PushFront(e)
	if len(c.byID) > c.size {
		last := c.recency.Back()
		delete(c.byID, c.recency.Remove(last).(entry).id)
	}
}
