// SPDX-License-Identifier: Apache-2.0

package dwarfsym_test

import (
	"context"
	"debug/elf"
	"errors"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/fleetprof/fleetprof/symbolize/dwarfsym"
	"github.com/fleetprof/fleetprof/symbolize/llvmtest"
)

// told is a range that Walk tells of.
type told struct {
	low, high uint64
	frames    []dwarfsym.Frame
}

func walk(t *testing.T, table *dwarfsym.Table) (all []told) {
	t.Helper()
	units := 0
	err := table.Walk(func() error { units++; return nil }, func(low, high uint64, frames []dwarfsym.Frame, err error) error {
		if err != nil || low >= high {
			t.Errorf("%#x to %#x: %v", low, high, err)
		}
		all = append(all, told{low, high, frames})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if units == 0 {
		t.Error("no units")
	}
	return all
}

// TestWalk finds everywhere what Lookup does, and no address twice.
func TestWalk(t *testing.T) {
	for name, build := range map[string]func(testing.TB) string{
		"C":                compiled("gcc", "testdata/inline.c", "-lm", "-O2", "-g"),
		"C++, in sections": compiled("g++", "testdata/templates.cc", "-O3", "-g", "-ffunction-sections", "-Wl,--gc-sections"),
		"Rust":             compiled("rustc", "testdata/closures.rs", "-O", "-g"),
	} {
		t.Run(name, func(t *testing.T) {
			path := build(t)
			table := open(t, path, path)
			all := walk(t, table)
			slices.SortFunc(all, func(a, b told) int { return int(int64(a.low - b.low)) })
			for i := range all[1:] {
				if all[i].high > all[i+1].low {
					t.Fatalf("%#x is in two ranges", all[i+1].low)
				}
			}
			file, err := elf.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			addrs := llvmtest.Draw(file, 3000)
			for _, r := range all[:min(1000, len(all))] {
				addrs = append(addrs, r.low, r.high-1, r.high)
			}
			known := 0
			for _, a := range addrs {
				want, err := table.Lookup(a)
				if err != nil {
					t.Fatal(err)
				}
				var got []dwarfsym.Frame
				i, found := slices.BinarySearchFunc(all, a, func(r told, a uint64) int { return int(int64(r.low - a)) })
				if !found {
					i--
				}
				if i >= 0 && a < all[i].high {
					got = all[i].frames
				}
				if len(got)+len(want) > 0 && !reflect.DeepEqual(got, want) {
					t.Errorf("%#x is\n\t%v\nwant\n\t%v", a, got, want)
				}
				known += min(1, len(want))
			}
			if known < len(addrs)/3 {
				t.Errorf("%d of %d addresses known", known, len(addrs))
			}
		})
	}
}

// TestWalkEnds ends with the error of whoever it calls.
func TestWalkEnds(t *testing.T) {
	path := compiled("gcc", "testdata/inline.c", "-lm", "-O2", "-g")(t)
	table, stop := open(t, path, path), errors.New("enough")
	calls := 0
	nothing := func() error { return nil }
	if err := table.Walk(func() error { return stop }, nil); !errors.Is(err, stop) {
		t.Errorf("before the first unit: %v", err)
	}
	if err := table.Walk(nothing, func(uint64, uint64, []dwarfsym.Frame, error) error { calls++; return stop }); !errors.Is(err, stop) || calls != 1 {
		t.Errorf("after %d ranges: %v", calls, err)
	}
}

// TestPause leaves half of what can be saved to lookups.
func TestPause(t *testing.T) {
	const burst = 20 * time.Millisecond
	u := dwarfsym.NewUnits(1<<20, 0.5, burst)
	begin := time.Now()
	if err := u.Pause(t.Context(), burst/2); err != nil || time.Since(begin) > burst {
		t.Errorf("half of the time: %v after %s", err, time.Since(begin))
	}
	begin = time.Now()
	if err := u.Pause(t.Context(), burst); err != nil || time.Since(begin) < 3*burst/2 { // half of it comes back in 2*burst, less what passed
		t.Errorf("more than that: %v after %s", err, time.Since(begin))
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := u.Pause(ended, time.Hour); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end: %v", err)
	}
}
