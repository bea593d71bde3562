// SPDX-License-Identifier: Apache-2.0

package uploader_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fleetprof/fleetprof/uploader"
)

const windowTime = 10 * time.Second

// TestTenMinutesAway has a store away for ten minutes, with and without a spool: all
// arrives, once, and soon after the store is back.
func TestTenMinutesAway(t *testing.T) {
	for _, dir := range []string{"", t.TempDir()} {
		synctest.Test(t, func(t *testing.T) {
			back := time.Now().Add(12 * time.Minute)
			gone := time.Now().Add(2 * time.Minute)
			d := &store{name: "http://a", fault: func(ctx context.Context, n int) (error, bool) {
				if now := time.Now(); now.Before(gone) || now.After(back) {
					return nil, true
				}
				return away(ctx, n)
			}}
			f := start(t, spooled(dir, d))
			for i := range 90 { // 15 minutes
				f.Enqueue(numbered(i))
				time.Sleep(windowTime)
				if i == 76 && len(d.contents()) != 77 { // 50 s after it is back
					t.Errorf("%d of 77 have arrived", len(d.contents()))
				}
			}
			f.stop()
			f.balance(d.name)
			if d.samples() != 900 || d.repeats != 0 {
				t.Errorf("%d samples arrived, %d repeats", d.samples(), d.repeats)
			}
			// 30 s between attempts at most, 15 on average.
			if n := f.metric("retries_total", d.name); n < 20 || n > 100 {
				t.Errorf("%v attempts failed", n)
			}
		})
	}
}

// TestFaults answers as stores in trouble do, at random, and takes some profiles
// all the same: those are sent again, and everything else arrives once.
func TestFaults(t *testing.T) {
	hang := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	faults := map[string]func(ctx context.Context) (error, bool){
		"429 Retry-After": func(context.Context) (error, bool) {
			return uploader.Retry{Err: errors.New("429"), After: time.Minute}, false
		},
		"500":                 func(context.Context) (error, bool) { return errors.New("500"), false },
		"500, stored":         func(context.Context) (error, bool) { return errors.New("500"), true },
		"hangs":               func(ctx context.Context) (error, bool) { return hang(ctx), false },
		"hangs, stored":       func(ctx context.Context) (error, bool) { return hang(ctx), true },
		"cuts the body":       func(context.Context) (error, bool) { return errors.New("connection reset by peer"), false },
		"cuts the answer off": func(context.Context) (error, bool) { return errors.New("unexpected EOF"), true },
	}
	for name, fault := range faults {
		for _, most := range []int{1, 4} {
			t.Run(fmt.Sprint(name, " ", most), func(t *testing.T) {
				dir := t.TempDir()
				synctest.Test(t, func(t *testing.T) {
					random := rand.New(rand.NewPCG(1, uint64(most)))
					d := &store{name: "http://a", most: most}
					draw := make(chan int, 1)
					draw <- 0
					d.fault = func(ctx context.Context, _ int) (error, bool) {
						<-draw
						n := random.IntN(3)
						draw <- 0
						time.Sleep(time.Second)
						if n > 0 {
							return nil, true
						}
						return fault(ctx)
					}
					f := start(t, spooled(dir, d))
					for i := range 40 {
						f.Enqueue(numbered(i))
						time.Sleep(windowTime)
					}
					time.Sleep(30 * time.Minute)
					f.stop()
					f.balance(d.name)
					f.wantMetrics(map[string]float64{"samples_sent_total http://a": 400})
					if d.samples() != 400 || f.metric("retries_total", d.name) < 5 {
						t.Errorf("%d samples arrived after %v retries", d.samples(), f.metric("retries_total", d.name))
					}
					if _, taken := fault(canceled()); (d.repeats > 0) != taken {
						t.Errorf("%d repeats", d.repeats)
					}
				})
			})
		}
	}
}

// canceled is a context that has ended.
func canceled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// TestConcurrency has a store take half a second for each profile, four at a time, and
// expects one at a time while it fails.
func TestConcurrency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		back := time.Now().Add(10 * time.Minute)
		d := &store{name: "http://a", most: 4}
		d.fault = func(ctx context.Context, n int) (error, bool) {
			time.Sleep(time.Duration(500+n%3) * time.Millisecond)
			if time.Now().Before(back) {
				return away(ctx, n)
			}
			return nil, true
		}
		f := start(t, spooled("", d))
		for i := range 41 {
			f.Enqueue(numbered(i))
		}
		time.Sleep(time.Minute)
		d.take() // at first there were four
		time.Sleep(time.Until(back) - time.Second)
		if top, attempts := d.take(); top != 1 || len(attempts) < 10 {
			t.Errorf("%d at a time while it fails, %d attempts", top, len(attempts))
		}
		time.Sleep(time.Minute)
		top, attempts := d.take()
		if top != 4 || d.samples() != 410 || d.repeats != 0 {
			t.Errorf("%d at a time, %d samples, %d repeats", top, d.samples(), d.repeats)
		}
		if took := attempts[len(attempts)-1].Sub(attempts[len(attempts)-41]); took > 6*time.Second {
			t.Errorf("41 took %v", took)
		}
		f.stop()
		f.balance(d.name)
	})
}

// take gives the most attempts there were at a time, and when each began, and starts anew.
func (s *store) take() (top int, attempts []time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	top, attempts = s.top, s.attempts
	s.top, s.attempts = s.now, nil
	return top, attempts
}
