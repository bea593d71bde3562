// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/fleetprof/fleetprof/uploader/server"
)

// live is a fleet that sends to a server process.
type live struct {
	agents, lines int
	growing       bool // see newFleet
	// windows is how many profiles each agent sends, and every how much time.
	windows int
	every   time.Duration
	// atOnce has all agents send theirs, of which there is one then, at the same time.
	atOnce bool
	out    io.Writer
}

// run simulates the fleet and prints what it cost the server.
func (l live) run(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp("", "fleetprof-load-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	p, err := startServer(ctx, dir)
	if err != nil {
		return err
	}
	before, err := p.cpu()
	if err != nil {
		return err
	}
	cost, err := newWireCost()
	if err != nil {
		return err
	}
	t, begin := newTally(l.agents*l.windows), time.Now()
	if err := l.simulate(ctx, p.url, t, cost, &begin); err != nil {
		return err
	}
	r := report{live: l, tally: t, cost: cost, elapsed: t.lastly.Sub(begin)}
	if err := r.read(p, before); err != nil {
		return err
	}
	r.print()
	return p.stop()
}

// simulate runs the agents until all that they have is sent. begin becomes when they
// started.
func (l live) simulate(ctx context.Context, url string, t *tally, cost *wireCost, begin *time.Time) error {
	f, err := newFleet(l.agents, l.growing, 1)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	g, ctx := errgroup.WithContext(ctx)
	var all []*agent
	for _, h := range f.hosts {
		a, err := l.agent(f, h, url, t)
		if err != nil {
			return err
		}
		all = append(all, a)
	}
	var making sync.Mutex // of the fleet
	*begin = time.Now()
	for i, a := range all {
		g.Go(func() error { return a.Run(ctx) })
		if l.atOnce {
			continue
		}
		g.Go(func() error {
			// Each has a phase of its own.
			next := begin.Add(time.Duration(i) * l.every / time.Duration(len(all)))
			for range l.windows {
				if err := sleepUntil(ctx, next); err != nil {
					return err
				}
				making.Lock()
				w := f.draw(a.host, l.lines)
				p, err := f.encode(w, time.Now().Add(-windowLength))
				if err == nil && i < watchedAgents {
					err = cost.add(f, w)
				}
				making.Unlock()
				if err != nil {
					return err
				}
				a.Enqueue(p)
				next = next.Add(l.every)
			}
			return nil
		})
	}
	select {
	case <-t.complete:
	case <-ctx.Done():
	}
	err = context.Cause(ctx)
	stop()
	if waited := g.Wait(); err == nil {
		err = waited
	}
	return err
}

// agent makes the agent of a host. One that is to send at once has its profile already.
func (l live) agent(f *fleet, h *host, url string, t *tally) (*agent, error) {
	if !l.atOnce {
		to, err := server.New(url)
		if err != nil {
			return nil, err
		}
		return newAgent(h, to, t)
	}
	p, err := f.encode(f.draw(h, l.lines), time.Now().Add(-windowLength))
	if err != nil {
		return nil, err
	}
	to, err := prepare(url, h.name, p.PProf)
	if err != nil {
		return nil, err
	}
	a, err := newAgent(h, to, t)
	if err == nil {
		a.Enqueue(p)
	}
	return a, err
}

func sleepUntil(ctx context.Context, at time.Time) error {
	timer := time.NewTimer(time.Until(at))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// report is what a run has shown.
type report struct {
	live
	tally   *tally
	cost    *wireCost
	elapsed time.Duration

	cpu      time.Duration
	memory   int64   // the most that was resident, in bytes
	received float64 // bytes
	stored   float64 // samples
	disk     int64   // bytes
}

func (r *report) read(p *process, before time.Duration) (err error) {
	if r.cpu, err = p.cpu(); err != nil {
		return err
	}
	r.cpu -= before
	if r.memory, err = peak(p.cmd.Process.Pid); err != nil {
		return err
	}
	if r.received, err = p.metric("fleetprof_ingest_bytes_total", ""); err != nil {
		return err
	}
	if r.stored, err = p.metric("fleetprof_ingest_samples_total", ""); err != nil {
		return err
	}
	r.disk, err = diskUsage(p.data)
	return err
}

func (r *report) print() {
	lines := float64(r.tally.sent * r.lines)
	p := func(format string, args ...any) { fmt.Fprintf(r.out, format+"\n", args...) }
	p("%d agents, %d profiles of %d lines, %.0f s", r.agents, r.tally.sent, r.lines, r.elapsed.Seconds())
	p("  server: %.1f %% of a core (%.1f ms a profile), at most %d MiB resident, %d MiB on disk",
		100*r.cpu.Seconds()/r.elapsed.Seconds(), 1000*r.cpu.Seconds()/float64(r.tally.sent), r.memory>>20, r.disk>>20)
	p("  samples: %d sent, %.0f stored", r.tally.samples, r.stored)
	p("  attempts refused: %d %v, longest wait of a profile after its first attempt %.1f s", r.tally.refused, r.tally.reasons, r.tally.longest.Seconds())
	p("  bytes received: %.1f a line", r.received/lines)
	r.cost.print(r.out)
}
