// SPDX-License-Identifier: Apache-2.0

package store

import (
	"time"

	"github.com/fleetprof/fleetprof/server/store/block"
)

const (
	// rememberIDs is how long it is known at least which profiles have been stored.
	rememberIDs = 25 * time.Hour
	// maxIDs bounds the ids in memory: 200 agents with a profile every 10 s for 24 h,
	// in some 100 MB.
	maxIDs = 2 << 20
)

// idSet is the ids of the profiles stored of late. It has no lock of its own.
type idSet struct {
	hours map[int64]map[[16]byte]struct{} // by the hour in which they were stored
	count int
}

func newIDSet() *idSet { return &idSet{hours: map[int64]map[[16]byte]struct{}{}} }

func hourOf(milli int64) int64 { return milli / time.Hour.Milliseconds() }

func (s *idSet) has(id [16]byte) bool {
	for _, ids := range s.hours {
		if _, ok := ids[id]; ok {
			return true
		}
	}
	return false
}

// add remembers ids, and gives how many had to be forgotten before their time.
func (s *idSet) add(ids ...block.ID) (forgotten int) {
	for _, id := range ids {
		hour := hourOf(id.Stored)
		if s.hours[hour] == nil {
			s.hours[hour] = map[[16]byte]struct{}{}
		}
		before := len(s.hours[hour])
		s.hours[hour][id.ID] = struct{}{}
		s.count += len(s.hours[hour]) - before
	}
	for s.count > maxIDs && len(s.hours) > 1 {
		forgotten += s.forget(s.oldest())
	}
	return forgotten
}

func (s *idSet) oldest() int64 {
	oldest, first := int64(0), true
	for hour := range s.hours {
		if first || hour < oldest {
			oldest, first = hour, false
		}
	}
	return oldest
}

func (s *idSet) forget(hour int64) int {
	n := len(s.hours[hour])
	delete(s.hours, hour)
	s.count -= n
	return n
}

// expire forgets what was stored too long ago.
func (s *idSet) expire(now time.Time) {
	last := hourOf(now.Add(-rememberIDs).UnixMilli())
	for hour := range s.hours {
		if hour < last {
			s.forget(hour)
		}
	}
}
