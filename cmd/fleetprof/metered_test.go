// SPDX-License-Identifier: Apache-2.0

package main

import (
	"testing"
	"time"

	"github.com/fleetprof/fleetprof/internal/cputime"
	"github.com/fleetprof/fleetprof/sample"
)

// slow is a Symbolizer that takes a while.
type slow struct{}

func (slow) Symbolize(sample.Location) sample.Symbolized {
	for begin := cputime.Thread(); cputime.Thread()-begin < 50*time.Millisecond; {
	}
	return sample.Symbolized{Address: 7}
}

// What names cost is counted in whatever goroutine they are looked for.
func TestMetered(t *testing.T) {
	var meter cputime.Meter
	named := make(chan sample.Symbolized)
	go func() { named <- metered{slow{}, &meter}.Symbolize(sample.Location{}) }()
	if got := <-named; got.Address != 7 || meter.Spent() < 50*time.Millisecond {
		t.Errorf("%+v cost %v", got, meter.Spent())
	}
}
