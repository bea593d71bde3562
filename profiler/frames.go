// SPDX-License-Identifier: Apache-2.0

package profiler

// maxFrameBytes bounds the frames that one generation of a frameCache holds.
const maxFrameBytes = 4 << 20

// frameCache holds the frames that the kernel side has sent, by their hash: it
// sends them once in an epoch and then the hash alone. What is asked for may
// have been sent in the epoch before, and no earlier. Not safe for concurrent
// use.
type frameCache struct {
	this, last map[uint64][]uint64
	bytes      int // of this
}

func newFrameCache() frameCache {
	return frameCache{this: make(map[uint64][]uint64)}
}

// get gives frames, which must not be changed; nil if they never came.
func (c *frameCache) get(hash uint64) []uint64 {
	if frames, ok := c.this[hash]; ok {
		return frames
	}
	return c.last[hash]
}

func (c *frameCache) put(hash uint64, frames []uint64) {
	c.this[hash] = frames
	c.bytes += len(frames)*8 + 64
}

// full tells that an epoch should end before its time.
func (c *frameCache) full() bool { return c.bytes > maxFrameBytes }

// next forgets what the epoch before this one has sent.
func (c *frameCache) next() {
	c.last, c.this, c.bytes = c.this, make(map[uint64][]uint64), 0
}
