// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"math"
	"time"

	"golang.org/x/sys/unix"
)

// ClockZero is the time at which the clock of samples and activities was 0, as the
// wall clock stands now.
func ClockZero() time.Time { return time.Now().Round(0).Add(-time.Duration(monotonic())) }

// began is a time by Go's clock, which is CLOCK_MONOTONIC from another zero (runtime.nanotime), and
// beganAt the same by CLOCK_MONOTONIC, no more than a few hundred nanoseconds off.
var began, beganAt = readClocks()

func readClocks() (by time.Time, at uint64) {
	closest := time.Duration(math.MaxInt64)
	for range 10 { // this thread may lose its CPU between two readings
		var ts unix.Timespec
		before := time.Now()
		if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
			panic(err) // cannot happen: the clock is in POSIX
		}
		if took := time.Since(before); took < closest {
			closest, by, at = took, before.Add(took/2), uint64(ts.Nano())
		}
	}
	return by, at
}

// monotonic is CLOCK_MONOTONIC in nanoseconds, the clock of both streams. It is no system call, which
// [unix.ClockGettime] is.
func monotonic() uint64 { return beganAt + uint64(time.Since(began)) }
