// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/fleetprof/fleetprof/internal/cputime"
	"github.com/fleetprof/fleetprof/sample"
	"github.com/fleetprof/fleetprof/server/columns"
	"github.com/fleetprof/fleetprof/server/store"
	"github.com/fleetprof/fleetprof/uploader"
)

// runCommand is `fleetprof run`.
type runCommand struct {
	continuous
	serving
}

// Validate is called by the flag parser; both halves have one.
func (c *runCommand) Validate() error {
	if c.Symbolize == symbolizeStore {
		return badFlag("symbolize", "must be agent: what samples here and what stores are one process")
	}
	return errors.Join(c.continuous.Validate(), c.serving.Validate())
}

// Run samples and serves until ctx ends.
func (c *runCommand) Run(ctx context.Context, con *console) error {
	registry, meter := newRegistry(), new(cputime.Meter)
	s, err := newStoreServer(c.serving, registry, con.log, meter)
	if err != nil {
		return err
	}
	defer s.Close()
	a, err := newAgent(c.continuous, uploader.Options{Destinations: []uploader.Destination{local{s.store}}}, policies{source: localPolicy{s.server.Policy()}}, nameFiles{}, registry, con)
	if err != nil {
		return err
	}
	defer a.Close()
	a.governor.Exclude(meter)

	// The server outlives the agent, so that the last window is stored.
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	served := make(chan error, 1)
	sampling, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		served <- s.Serve(serving)
		cancel()
	}()
	fmt.Fprintf(con.err, "\n  fleetprof samples this host %d times a second on every CPU.\n"+
		"  The page is at %s (first profile within %s). Ctrl-C ends it.\n\n", c.Frequency, s.URL(), c.Window*3/2)
	err = a.Run(sampling)
	stop()
	return errors.Join(err, <-served)
}

// local is the store of this process as a destination.
type local struct{ store *store.Store }

func (l local) String() string { return "local" }

func (l local) Send(ctx context.Context, p sample.Profile) error {
	profile, err := columns.Read(p.PProf)
	if err != nil {
		return uploader.Permanent{Err: err}
	}
	err = l.store.Append(ctx, profile, store.IDOf(p.PProf))
	if errors.Is(err, store.ErrRefused) {
		return uploader.Permanent{Err: err}
	}
	if err != nil || p.Exemplars == nil {
		return err
	}
	err = l.store.PutExemplars(ctx, p.Start, p.Start.Add(p.Duration), p.Exemplars)
	if errors.Is(err, store.ErrRefused) {
		return uploader.Incomplete{Err: err}
	}
	return err
}
