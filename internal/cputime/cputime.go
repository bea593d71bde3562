// SPDX-License-Identifier: Apache-2.0

// Package cputime measures what work costs this process.
package cputime

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Process is the CPU time of all threads of this process since its start, in user and in kernel
// mode: CLOCK_PROCESS_CPUTIME_ID of clock_gettime(2).
func Process() (time.Duration, error) {
	used, err := read(unix.CLOCK_PROCESS_CPUTIME_ID)
	if err != nil {
		return 0, fmt.Errorf("read CPU time of this process: %w", err)
	}
	return used, nil
}

// Thread is that of the calling thread.
func Thread() time.Duration {
	used, _ := read(unix.CLOCK_THREAD_CPUTIME_ID) // it is in POSIX
	return used
}

// read is exact to the moment, which getrusage(2) is to the last tick only.
func read(clock int32) (time.Duration, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(clock, &ts); err != nil {
		return 0, err
	}
	return time.Duration(ts.Nano()), nil
}

// Meter sums up what some work of this process costs. The zero value is ready, and a nil one
// measures nothing. It is safe for concurrent use.
type Meter struct{ spent atomic.Int64 }

// Do calls f and counts its CPU time, once it returns. What others do for it meanwhile, such as the
// collector of garbage, is not counted.
func (m *Meter) Do(f func()) {
	if m == nil {
		f()
		return
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	begin := Thread()
	defer func() { m.spent.Add(int64(Thread() - begin)) }()
	f()
}

// Spent is the CPU time of all that was done.
func (m *Meter) Spent() time.Duration { return time.Duration(m.spent.Load()) }
