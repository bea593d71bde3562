// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"math"
	"testing"

	"golang.org/x/sys/unix"
)

// It is never a microsecond off what the kernel says, before and after.
func TestMonotonic(t *testing.T) {
	kernel := func() uint64 {
		var ts unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
			t.Fatal(err)
		}
		return uint64(ts.Nano())
	}
	off := uint64(math.MaxUint64)
	for range 10000 { // a slow machine cannot read two clocks closer than that
		before := kernel()
		_ = monotonic()
		off = min(off, kernel()-before)
	}
	off = max(off, 1000)
	for range 10000 {
		before := kernel()
		got := monotonic()
		if after := kernel(); got+off < before || got > after+off {
			t.Fatalf("%d, want between %d and %d, or %d ns off", got, before, after, off)
		}
	}
}
