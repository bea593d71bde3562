// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"time"

	"golang.org/x/sys/unix"
)

// ClockZero is the time at which the clock of samples and activities was 0, as the
// wall clock stands now.
func ClockZero() time.Time { return time.Now().Round(0).Add(-time.Duration(monotonic())) }

// monotonic is CLOCK_MONOTONIC in nanoseconds, the clock of both streams.
func monotonic() uint64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic(err) // cannot happen: the clock is in POSIX
	}
	return uint64(ts.Nano())
}
