// SPDX-License-Identifier: Apache-2.0

package profiler

import "math"

// Plan is how one event per CPU serves several rates: it ticks at the highest of them,
// and of most processes only some ticks are sampled.
type Plan struct {
	// Frequency is that of the event, a multiple of the base.
	Frequency int
	// Usual is the weight of processes that are sampled at the base frequency.
	Usual uint32
	// Weights are those of the rates that were asked for, in their order.
	Weights []uint32
}

// maxWeight bounds the weights: a tick is chosen by a random number of 32 bits, which
// gives one in so many with an error of 1 in 4,096.
const maxWeight = 1 << 20

// NewPlan serves processes at a base frequency and others at rates of their own, all in
// samples per second and CPU; 0 is none. base and most are at least 1, and no event ticks
// faster than most: then high rates give way first, and after them the base.
//
// The event's frequency is a whole multiple of the base, and weights are whole numbers, so
// the rates are those asked for only as nearly as that allows. What samples stand for is
// exact.
func NewPlan(base, most int, rates ...float64) Plan {
	base = min(base, most)
	highest := float64(base)
	for _, r := range rates {
		highest = max(highest, r)
	}
	multiple := int(min(math.Round(highest/float64(base)), float64(most/base)))
	p := Plan{Frequency: base * multiple, Usual: uint32(multiple), Weights: make([]uint32, len(rates))}
	for i, r := range rates {
		if r > 0 {
			p.Weights[i] = uint32(min(max(math.Round(float64(p.Frequency)/r), 1), maxWeight))
		}
	}
	return p
}
