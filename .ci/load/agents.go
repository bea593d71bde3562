// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fleetprof/fleetprof/sample"
	"github.com/fleetprof/fleetprof/uploader"
)

// tally is what became of what agents sent. It is safe for concurrent use.
type tally struct {
	mu       sync.Mutex
	sent     int           // profiles
	samples  int64         // in these
	refused  int           // attempts that failed
	longest  time.Duration // that a profile had to wait after its first attempt
	lastly   time.Time     // when the last profile was taken
	reasons  map[string]int
	complete chan struct{} // closed when want profiles were taken
	want     int
}

func newTally(want int) *tally {
	return &tally{want: want, reasons: map[string]int{}, complete: make(chan struct{})}
}

func (t *tally) took(samples int64, waited time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sent++
	t.samples += samples
	t.longest, t.lastly = max(t.longest, waited), time.Now()
	if t.sent == t.want {
		close(t.complete)
	}
}

func (t *tally) refuse(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.refused++
	for errors.Unwrap(err) != nil {
		err = errors.Unwrap(err)
	}
	t.reasons[err.Error()]++
}

// watched is a destination whose answers are told to a tally.
type watched struct {
	uploader.Destination
	tally *tally
	first time.Time // attempt at the profile being sent
}

func (w *watched) Send(ctx context.Context, p sample.Profile) error {
	if w.first.IsZero() {
		w.first = time.Now()
	}
	err := w.Destination.Send(ctx, p)
	if err != nil {
		w.tally.refuse(err)
		return err
	}
	w.tally.took(p.Samples, time.Since(w.first))
	w.first = time.Time{}
	return nil
}

// agent is a simulated one: a real uploader without a sampler.
type agent struct {
	*uploader.Uploader
	host *host
}

func newAgent(h *host, to uploader.Destination, t *tally) (*agent, error) {
	u, err := uploader.New(uploader.Options{
		Destinations: []uploader.Destination{&watched{Destination: to, tally: t}},
		Logger:       slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
	})
	return &agent{u, h}, err
}

// encode makes the profile of a window as its agent sends it.
func (f *fleet) encode(w window, start time.Time) (sample.Profile, error) {
	p, err := f.profile(w, w.lines, start)
	if err != nil {
		return sample.Profile{}, err
	}
	gz, err := encodePProf(p)
	return sample.Profile{Start: start, Duration: windowLength, Samples: p.Samples(), PProf: gz}, err
}
