// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"context"
	"errors"
	"time"

	"github.com/fleetprof/fleetprof/bpf"
)

// KernelShare is how many CPUs the BPF programs of the profiler keep busy: the time that
// they run within a span of time, divided by it. Meanwhile the kernel measures every BPF
// program of the host, which costs them some 20 ns a run, so the span should be short.
func (p *Profiler) KernelShare(ctx context.Context, span time.Duration) (share float64, err error) {
	measuring, err := bpf.EnableRunTime()
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, measuring.Close()) }()
	before, err := p.runTime()
	if err != nil {
		return 0, err
	}
	begin := time.Now()
	select {
	case <-time.After(span):
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	after, err := p.runTime()
	return (after - before).Seconds() / time.Since(begin).Seconds(), err
}

func (p *Profiler) runTime() (time.Duration, error) {
	sum, err := p.sampler.RunTime()
	if err != nil || p.activities == nil {
		return sum, err
	}
	more, err := p.activities.requests.RunTime()
	return sum + more, err
}

// OnlineCPUs is how many CPUs run now.
func OnlineCPUs() (int, error) {
	online, err := onlineCPUs()
	return len(online), err
}
