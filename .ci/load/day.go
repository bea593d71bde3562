// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/fleetprof/fleetprof/server/store"
)

// day is a fleet whose hours pass as fast as a store takes them: in this process, without
// a network, and with a clock that windows say.
type day struct {
	agents, lines int
	growing       bool // see newFleet
	hours         float64
	repeat        int           // how many times the hours that are drawn come one after the other
	after         time.Duration // of a store that was filled before
	dir           string
	out           io.Writer
}

const (
	// sealAge is that of the store, whose clock is another one.
	sealAge = 30 * time.Minute
	// reportEvery is how often the state of the store is printed.
	reportEvery = time.Hour
	// softMemory is that of the server: garbage is held down from there on.
	softMemory = 768 << 20
)

// filled is a store with what is in it.
type filled struct {
	*store.Store
	fleet    *fleet
	from, to time.Time
	samples  int64
}

// run fills the store, prints what that took, and asks it.
func (d day) run(ctx context.Context) error {
	debug.SetMemoryLimit(softMemory)
	if d.dir == "" {
		temp, err := os.MkdirTemp("", "fleetprof-load-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(temp)
		d.dir = temp
	}
	f, err := d.fill(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // of the store that it is then
	if d.repeat > 1 {
		if err := d.repeatHours(ctx, f); err != nil {
			return err
		}
	}
	return d.ask(ctx, f)
}

// again asks a store that was filled before.
func (d day) again(ctx context.Context) error {
	debug.SetMemoryLimit(softMemory)
	s, err := d.open()
	if err != nil {
		return err
	}
	defer s.Close()
	f := &filled{Store: s}
	f.from, f.to, _ = s.Bounds()
	if f.fleet, err = newFleet(d.agents, d.growing, 1); err != nil {
		return err
	}
	if d.after > 0 {
		if err := d.age(ctx, f); err != nil {
			return err
		}
	}
	return d.ask(ctx, f)
}

// age merges what is due when the store is older, and prints what that took.
func (d day) age(ctx context.Context, f *filled) error {
	merging, err := measured(func() error {
		f.Compact(ctx, f.to.Add(d.after))
		return ctx.Err()
	})
	if err != nil {
		return err
	}
	disk, blocks, err := d.usage()
	if err != nil {
		return err
	}
	fmt.Fprintf(d.out, "%v later: %d MiB in %d blocks on disk; merging took %v\n", d.after, disk>>20, blocks, merging)
	return nil
}

// effort is what something took.
type effort struct {
	clock, cpu time.Duration
	most       int64 // resident memory, in bytes
}

func (e effort) String() string {
	return fmt.Sprintf("%v, %v of CPU time; at most %d MiB resident", e.clock.Round(time.Second), e.cpu.Round(time.Second), e.most>>20)
}

// measured gives what a function took.
func measured(f func() error) (e effort, err error) {
	if _, err := resetPeak(); err != nil {
		return e, err
	}
	begin, before := time.Now(), cpuTime()
	if err := f(); err != nil {
		return e, err
	}
	e.clock, e.cpu = time.Since(begin), cpuTime()-before
	e.most, err = resetPeak()
	return e, err
}

// blocks is where the blocks of the store are.
func (d day) blocks() string { return filepath.Join(d.dir, "blocks") }

// usage is what the store takes on disk, in bytes, and how many blocks there are.
func (d day) usage() (bytes int64, blocks int, err error) {
	if bytes, err = diskUsage(d.dir); err != nil {
		return 0, 0, err
	}
	all, err := os.ReadDir(d.blocks())
	return bytes, len(all), err
}

// ask asks about the last hour and about all there is.
func (d day) ask(ctx context.Context, f *filled) error {
	all := f.to.Sub(f.from)
	for _, span := range slices.Compact([]time.Duration{min(time.Hour, all), all}) {
		for _, answer := range answers {
			rounds, err := f.ask(ctx, answer, f.to.Add(-span), f.to)
			if err != nil {
				return err
			}
			for i, t := range rounds {
				t.print(d.out, answer, span, i+1)
			}
		}
	}
	most, err := peak(os.Getpid())
	fmt.Fprintf(d.out, "at most %d MiB resident, the generator included\n", most>>20)
	return err
}

func (d day) open() (*store.Store, error) {
	return store.Open(d.dir, store.Options{
		MaxBytes: 64 << 30, Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)), Registerer: prometheus.NewRegistry(),
	})
}

// filling is a store while it is filled, as the server would with a clock that windows say.
type filling struct {
	day
	*filled
	appended int // profiles
	sealed   time.Time
	took     struct{ making, appending, sealing, merging time.Duration }
	most     struct{ appending, merging int64 } // resident memory, in bytes
}

// fill stores the windows of all hosts, seals and merges.
func (d day) fill(ctx context.Context) (*filled, error) {
	windows, err := d.drawnWindows()
	if err != nil {
		return nil, err
	}
	s, err := d.open()
	if err != nil {
		return nil, err
	}
	f := &filling{day: d, filled: &filled{Store: s}}
	if f.fleet, err = newFleet(d.agents, d.growing, 1); err != nil {
		return nil, err
	}
	f.fleet.sender = newSender()
	f.to = time.Now().Truncate(windowLength)
	f.from = f.to.Add(-time.Duration(windows) * windowLength)
	f.sealed = f.from
	for n := range windows {
		now := f.from.Add(time.Duration(n+1) * windowLength)
		if err := f.window(ctx, now.Add(-windowLength)); err != nil {
			return nil, err
		}
		if err := f.maintain(ctx, now, n == windows-1); err != nil {
			return nil, err
		}
		if passed := now.Sub(f.from); passed%reportEvery == 0 || n == windows-1 {
			if err := f.report(passed); err != nil {
				return nil, err
			}
		}
	}
	return f.filled, ctx.Err()
}

// appenders is how many profiles are appended at a time, whose syncs of the log are one.
const appenders = 8

// window appends what all hosts ran from start on.
func (f *filling) window(ctx context.Context, start time.Time) error {
	var g errgroup.Group
	g.SetLimit(appenders)
	begin, making := time.Now(), time.Duration(0)
	for _, h := range f.fleet.hosts {
		begin := time.Now()
		w := f.fleet.draw(h, f.lines)
		p, err := f.fleet.profile(w, w.lines, start)
		if err != nil {
			return errors.Join(err, g.Wait())
		}
		making += time.Since(begin)
		f.appended++
		f.samples += p.Samples()
		id := store.IDOf(fmt.Append(nil, f.appended))
		g.Go(func() error { return f.Append(ctx, p, id) })
	}
	err := g.Wait()
	f.took.making += making
	f.took.appending += time.Since(begin) - making
	return err
}

// maintain seals and merges what is due.
func (f *filling) maintain(ctx context.Context, now time.Time, last bool) error {
	most, err := resetPeak()
	if err != nil {
		return err
	}
	f.most.appending = max(f.most.appending, most)
	begin := time.Now()
	f.SealDue(ctx, now)
	if last || now.Sub(f.sealed) >= sealAge {
		f.sealed = now
		if err := f.Seal(ctx); err != nil {
			return err
		}
	}
	f.took.sealing += time.Since(begin)
	begin = time.Now()
	f.Compact(ctx, now)
	f.took.merging += time.Since(begin)
	if most, err = resetPeak(); err != nil {
		return err
	}
	f.most.merging = max(f.most.merging, most)
	return nil
}

func (f *filling) report(passed time.Duration) error {
	disk, blocks, err := f.usage()
	if err != nil {
		return err
	}
	fmt.Fprintf(f.out, "%d agents, %v: %d MiB in %d blocks on disk; making profiles took %v, appending %v besides, sealing %v, merging %v; at most %d MiB resident, %d while sealing and merging\n",
		f.agents, passed, disk>>20, blocks, f.took.making.Round(time.Second), f.took.appending.Round(time.Second),
		f.took.sealing.Round(time.Second), f.took.merging.Round(time.Second), f.most.appending>>20, f.most.merging>>20)
	return nil
}
