// SPDX-License-Identifier: Apache-2.0

// Package bootclock tells how much time has passed since an instant that a process noted
// before it was restarted. Within one boot of the host that is exact: CLOCK_BOOTTIME goes
// on, also while the host is suspended, and nobody sets it (clock_gettime(2)). After
// another boot there is only the wall clock, which may have been set meanwhile.
package bootclock

import (
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// bootIDFile has a number that the kernel draws at each boot, random(4).
const bootIDFile = "/proc/sys/kernel/random/boot_id"

// Instant is a point in time that means something to the next process, too.
type Instant struct {
	// Boot names the boot of the host; "" is unknown.
	Boot string `json:"boot_id"`
	// Uptime is CLOCK_BOOTTIME, in nanoseconds.
	Uptime time.Duration `json:"boottime_ns"`
	// Wall is what the wall clock said.
	Wall time.Time `json:"wall_time"`
}

// Now is the present. What cannot be read is unknown.
func Now() Instant {
	now := Instant{Wall: time.Now().Round(0)}
	id, err := os.ReadFile(bootIDFile)
	var uptime unix.Timespec
	if err != nil || unix.ClockGettime(unix.CLOCK_BOOTTIME, &uptime) != nil {
		return now
	}
	now.Boot, now.Uptime = strings.TrimSpace(string(id)), time.Duration(uptime.Nano())
	return now
}

// Since is the time from an earlier instant to i. exact is false if all that is known is
// the difference of the wall clock, which may be wrong by any amount; it is 0 then if
// that has gone back.
func (i Instant) Since(earlier Instant) (passed time.Duration, exact bool) {
	if i.Boot != "" && i.Boot == earlier.Boot && i.Uptime >= earlier.Uptime && earlier.Uptime >= 0 {
		return i.Uptime - earlier.Uptime, true
	}
	return max(0, i.Wall.Sub(earlier.Wall)), false
}
