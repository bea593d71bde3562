// SPDX-License-Identifier: Apache-2.0

package query

import (
	"fmt"
	"sync"
)

// memory is what all queries together may take. It is safe for concurrent use.
type memory struct {
	max int64 // bytes

	mu   sync.Mutex
	used int64
}

// take reports whether there are so many bytes more; a negative number gives them back.
func (m *memory) take(bytes int64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if bytes > 0 && m.used+bytes > m.max {
		return false
	}
	m.used += bytes
	return true
}

// held is how many bytes are taken.
func (m *memory) held() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.used
}

// claim is what the queries of one request take of the memory, their answer included. Nil
// holds anything. It is not safe for concurrent use.
type claim struct {
	memory *memory
	limit  int64 // bytes
	bytes  int64
}

// hold says how many bytes the request takes from now on.
func (c *claim) hold(bytes int64) error {
	if c == nil {
		return nil
	}
	if bytes > c.limit {
		return &limitError{fmt.Sprintf("the query takes more than %s of memory", size(c.limit)), "query-memory"}
	}
	if !c.memory.take(bytes - c.bytes) {
		return errNoMemory
	}
	c.bytes = bytes
	return nil
}

// more says that so many bytes come on top.
func (c *claim) more(bytes int64) error { return c.hold(c.held() + bytes) }

func (c *claim) held() int64 {
	if c == nil {
		return 0
	}
	return c.bytes
}

// release gives all of it back.
func (c *claim) release() {
	c.memory.take(-c.bytes)
	c.bytes = 0
}

// size is a number of bytes for people.
func size(bytes int64) string {
	if bytes < 1<<20 {
		return fmt.Sprintf("%d bytes", bytes)
	}
	return fmt.Sprintf("%d MiB", bytes>>20)
}
