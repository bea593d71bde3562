// SPDX-License-Identifier: Apache-2.0

// Package cputime measures what work costs this process.
package cputime

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"
)

// Process is the CPU time of all threads of this process since its start, in user and in kernel
// mode: getrusage(2).
func Process() (time.Duration, error) {
	used, err := read(syscall.RUSAGE_SELF)
	if err != nil {
		return 0, fmt.Errorf("read CPU time of this process: %w", err)
	}
	return used, nil
}

// Thread is that of the calling thread.
func Thread() time.Duration {
	used, _ := read(syscall.RUSAGE_THREAD) // fails on no kernel since 2.6.26
	return used
}

func read(who int) (time.Duration, error) {
	var r syscall.Rusage
	if err := syscall.Getrusage(who, &r); err != nil {
		return 0, err
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano()), nil
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
