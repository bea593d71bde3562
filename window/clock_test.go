// SPDX-License-Identifier: Apache-2.0

package window

import (
	"fmt"
	"testing"
	"time"
)

// TestFleetSpreads has ten thousand hosts with names as fleets have them start at the same
// instant, and counts who cuts in which tenth of a second.
func TestFleetSpreads(t *testing.T) {
	start := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	for _, every := range []time.Duration{time.Second, 10 * time.Second, 7 * time.Minute} {
		const slots = 100
		var counts [slots]int
		for i := range 10_000 {
			c := NewClock(fmt.Sprintf("node-%05d.rack%02d.example", i, i%40), every)
			at := start
			for range 4 {
				at = at.Add(c.Next(at))
			}
			counts[at.UnixNano()%int64(every)*slots/int64(every)]++
		}
		for slot, n := range counts { // 100 on average, with a standard deviation of 10
			if n < 50 || n > 150 {
				t.Errorf("windows of %v: %d of 10,000 hosts in slot %d of %d", every, n, slot, slots)
			}
		}
	}
}

// TestClock cuts on a clock that runs late, early, and is set.
func TestClock(t *testing.T) {
	const every = 10 * time.Second
	c := NewClock("a", every)
	now := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	var phase time.Duration
	for i, wrong := range []time.Duration{0, 0, 3 * time.Millisecond, -3 * time.Millisecond, 0, time.Hour + 4*time.Second, 0, -8 * time.Hour, 0, 6 * time.Second, 0} {
		wait := c.Next(now)
		if wait < every/2 || wait >= 3*every/2 {
			t.Errorf("cut %d is %v after the one before", i, wait)
		}
		now = now.Add(wait)
		if at := time.Duration(now.UnixNano()) % every; i == 0 {
			phase = at
		} else if at != phase {
			t.Errorf("cut %d is %v into the window, others are %v", i, at, phase)
		}
		now = now.Add(wrong)
	}
}

// Before 1970 the remainder is negative.
func TestClockBeforeTheEpoch(t *testing.T) {
	c := NewClock("a", time.Second)
	for i := range 1000 {
		now := time.Unix(-1, 0).Add(time.Duration(i) * 7 * time.Millisecond)
		if next := c.Next(now); next < time.Second/2 || next >= 3*time.Second/2 {
			t.Errorf("at %v it is %v to the next cut", now, next)
		}
	}
}
