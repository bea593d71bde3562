// SPDX-License-Identifier: Apache-2.0

// Package cputime measures what work costs this process.
package cputime

import (
	"fmt"
	"runtime"
	"sync"
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

// clockOf is the clock of any thread of this process: MAKE_THREAD_CPUCLOCK and CPUCLOCK_SCHED of
// include/linux/posix-timers.h.
func clockOf(tid int) int32 { return int32(^tid<<3 | 4 | 2) }

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
type Meter struct {
	mu    sync.Mutex
	spent time.Duration         // by what is over
	began map[int]time.Duration // for each thread at work, its CPU time then
}

// Do calls f and counts its CPU time. What others do for it meanwhile, such as the collector of
// garbage, is not counted. f must not call Do of the same meter.
func (m *Meter) Do(f func()) {
	if m == nil {
		f()
		return
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	tid, begin := unix.Gettid(), Thread()
	m.mu.Lock()
	if m.began == nil {
		m.began = map[int]time.Duration{}
	}
	m.began[tid] = begin
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.spent += Thread() - begin
		delete(m.began, tid)
	}()
	f()
}

// Spent is the CPU time of all that was done, and of what is being done until now.
func (m *Meter) Spent() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	spent := m.spent
	for tid, begin := range m.began {
		if now, err := read(clockOf(tid)); err == nil {
			spent += now - begin
		}
	}
	return spent
}
