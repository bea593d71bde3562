// SPDX-License-Identifier: Apache-2.0

package http2

import (
	"cmp"
	"slices"
)

// MaxStreams is how many open streams of a connection are followed. Most servers
// allow 100 to 250.
const MaxStreams = 1000

// stream is one that a client opened and that is still followed.
type stream struct {
	id       uint32
	answered bool    // the head of the answer was seen
	ended    [2]bool // by direction
}

// streams are in ascending order: that is how clients open them.
type streams []stream

func (s streams) find(id uint32) *stream {
	i, found := s.place(id)
	if !found {
		return nil
	}
	return &s[i]
}

func (s streams) place(id uint32) (i int, found bool) {
	return slices.BinarySearchFunc(s, id, func(t stream, id uint32) int { return cmp.Compare(t.id, id) })
}

// open adds a stream of a higher number than all others. If there are too many,
// the oldest makes room.
func (s *streams) open(id uint32) (dropped uint32) {
	if len(*s) == MaxStreams {
		dropped = (*s)[0].id
		*s = slices.Delete(*s, 0, 1)
	}
	*s = append(*s, stream{id: id})
	return dropped
}

func (s *streams) close(id uint32) {
	if i, found := s.place(id); found {
		*s = slices.Delete(*s, i, i+1)
	}
}
