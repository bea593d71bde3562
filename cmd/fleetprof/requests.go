// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fleetprof/fleetprof/attribute/rpc"
	"github.com/fleetprof/fleetprof/profiler"
	"github.com/fleetprof/fleetprof/sample"
)

// requests binds samples to the requests they serve. Its methods are called from
// the profiler's goroutine.
type requests struct {
	engine   *rpc.Engine
	profiler *profiler.Profiler
}

// newRequests makes the engine; the profiler is set before it runs. identify says what the
// requests of a process count as, see rpc.Options.
func newRequests(exemplars int, identify func(p sample.Process, settled bool) rpc.Identity, reg prometheus.Registerer, log *slog.Logger) (r *requests, err error) {
	r = new(requests)
	r.engine, err = rpc.New(rpc.Options{
		Identify: func(pid uint32, settled bool) rpc.Identity { return identify(r.profiler.Process(pid), settled) },
		Watch: func(socket uint64, everything bool) {
			r.profiler.WatchSocket(socket, everything)
		},
		Registerer: reg,
		Exemplars:  exemplars,
	})
	if err != nil {
		return nil, fmt.Errorf("follow requests: %w", err)
	}
	return r, nil
}

// Activity takes what a thread did.
func (r *requests) Activity(a *sample.Activity) {
	if a.Nonblocking && a.Executor.Kind == sample.Thread {
		r.profiler.FollowTurns() // it may be an event loop
	}
	r.engine.Activity(a)
}

// LostActivities takes that some are missing.
func (r *requests) LostActivities(n uint64) { r.engine.LostActivities(n) }

// Exited takes that a process has ended.
func (r *requests) Exited(pid uint32) { r.engine.Exited(pid) }
