// SPDX-License-Identifier: Apache-2.0

package uploader_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fleetprof/fleetprof/sample"
	"github.com/fleetprof/fleetprof/uploader"
)

// store is a Destination that recognises what is sent twice by its bytes, as a fleetprof
// server does.
type store struct {
	name string
	// fault is asked with the number of the attempt. What it answers goes to the sender; taken says
	// whether the profile arrived all the same.
	fault func(ctx context.Context, attempt int) (err error, taken bool)
	most  int // attempts at a time; 0 is one

	mu       sync.Mutex
	attempts []time.Time
	got      map[string]int64 // samples by content
	repeats  int
	now, top int // attempts under way, and the most there were
}

func (s *store) String() string { return s.name }

func (s *store) Concurrency() int { return max(1, s.most) }

func (s *store) Send(ctx context.Context, p sample.Profile) error {
	n := s.begin()
	var err error
	taken := true
	if s.fault != nil {
		err, taken = s.fault(ctx, n)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now--
	if !taken {
		return err
	}
	if s.got == nil {
		s.got = make(map[string]int64)
	}
	if _, known := s.got[string(p.PProf)]; known {
		s.repeats++
	}
	s.got[string(p.PProf)] = p.Samples
	return err
}

func (s *store) begin() (attempt int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.attempts = append(s.attempts, time.Now())
	s.now++
	s.top = max(s.top, s.now)
	return len(s.attempts) - 1
}

// contents are those that have arrived, sorted.
func (s *store) contents() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.got))
}

func (s *store) samples() (sum int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range s.got {
		sum += n
	}
	return sum
}

// numbered is a profile of 10 samples that differs from all others.
func numbered(i int) sample.Profile { return window(fmt.Sprintf("window-%06d", i)) }

// reasons are all for which profiles are dropped.
func reasons() []string {
	return []string{"queue_full", "spool_full", "too_old", "rejected", "corrupt", "shutdown"}
}

// balance expects that nothing was lost uncounted.
func (f *fixture) balance(destination string) {
	f.t.Helper()
	for _, unit := range []string{"profiles", "samples"} {
		in := f.metric(unit+"_in_total", destination) + f.metric(unit+"_recovered_total", destination)
		out := f.metric(unit+"_sent_total", destination) + f.metric("waiting_"+unit, destination)
		for _, reason := range reasons() {
			out += f.metric(unit+"_dropped_total", destination, reason)
		}
		if in != out {
			f.t.Errorf("%v %s in and recovered, %v sent, dropped or waiting", in, unit, out)
		}
	}
}

// until waits for a condition.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// spooled are options for one destination with a spool.
func spooled(dir string, d uploader.Destination) uploader.Options {
	return uploader.Options{Destinations: []uploader.Destination{d}, SpoolDir: dir}
}

func away(context.Context, int) (error, bool) {
	return fmt.Errorf("connection refused"), false
}

func (f *fixture) logged(text string) int { return strings.Count(f.logs.String(), text) }
