// SPDX-License-Identifier: Apache-2.0

package sample

import "time"

// Weight is what a sample stands for. Sums of it are right at any rate of sampling,
// also if that differs between samples.
type Weight struct {
	// Ticks is how many ticks of the sampling event: 1, or more of a process of which
	// only some ticks are sampled.
	Ticks uint32
	// Period is the CPU time of one tick in nanoseconds.
	Period uint32
}

// CPU is the CPU time that the sample stands for.
func (w Weight) CPU() time.Duration { return time.Duration(w.Ticks) * time.Duration(w.Period) }
