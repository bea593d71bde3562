// SPDX-License-Identifier: Apache-2.0

package governor

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"

	"github.com/fleetprof/fleetprof/internal/cputime"
)

// busyKernel is sampling whose BPF programs keep so many CPUs busy.
type busyKernel struct {
	share    float64
	err      error
	measured int
	limit    int
}

func (*busyKernel) Wanted() int { return 100 }

func (k *busyKernel) Limit(frequency int) error { k.limit = frequency; return nil }

func (k *busyKernel) KernelShare(context.Context, time.Duration) (float64, error) {
	k.measured++
	return k.share, k.err
}

func newTestGovernor(k *busyKernel) *Governor {
	return New(Options{
		Budget: 0.01, CPUs: func() (int, error) { return 1, nil }, Sampling: k,
		Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
	})
}

// BPF programs are measured in every third round, and in the one after a change.
func TestKernelIsMeasuredNowAndThen(t *testing.T) {
	k := &busyKernel{share: 0.001}
	g := newTestGovernor(k)
	rounds := func(n int) (measured string) {
		for range n {
			before := k.measured
			g.at = time.Now().Add(-time.Hour) // this process does nothing
			if err := g.round(t.Context()); err != nil {
				t.Fatal(err)
			}
			measured += fmt.Sprint(k.measured - before)
		}
		return measured
	}
	if got := rounds(5); got != "10010" || k.limit != NoLimit {
		t.Errorf("measured in rounds %s, limit %d", got, k.limit)
	}
	k.share = 0.5
	if got := rounds(3); got != "011" || k.limit >= 100 {
		t.Errorf("measured in rounds %s of a higher load, limit %d", got, k.limit)
	}
}

// Where nobody may measure them they cost nothing, which the log says.
func TestKernelMayNotBeMeasured(t *testing.T) {
	k := &busyKernel{err: fmt.Errorf("enable: %w", unix.EPERM)}
	g := newTestGovernor(k)
	g.at = time.Now().Add(-time.Hour)
	if err := g.round(t.Context()); err != nil || !g.unmeasured || g.kernel != 0 {
		t.Errorf("%v, known %v, %v CPUs", err, g.unmeasured, g.kernel)
	}
}

// What is excluded is no cost, also while it goes on.
func TestOtherWorkIsExcluded(t *testing.T) {
	g := newTestGovernor(&busyKernel{})
	var other cputime.Meter
	g.Exclude(&other)
	measure := func() (process float64) {
		t.Helper()
		process, _, err := g.measure(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return process
	}
	work := func() {
		for begin := cputime.Thread(); cputime.Thread()-begin < time.Second; {
		}
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	measure()
	if work(); measure() < 0.1 {
		t.Error("work is no cost")
	}
	if other.Do(work); measure() > 0.1 {
		t.Error("work that is excluded is a cost")
	}
	other.Do(func() {
		if work(); measure() > 0.1 {
			t.Error("work that goes on is a cost")
		}
	})
	if measure() > 0.1 {
		t.Error("work that has ended is a cost")
	}
}
