// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"math"
	"math/rand/v2"
	"reflect"
	"testing"
)

func TestPlan(t *testing.T) {
	tests := []struct {
		name       string
		base, most int
		rates      []float64
		want       Plan
	}{
		{"nothing asked for", 19, 999, nil, Plan{19, 1, []uint32{}}},
		{"off", 19, 999, []float64{0}, Plan{19, 1, []uint32{0}}},
		{"a tenth", 19, 999, []float64{1.9}, Plan{19, 1, []uint32{10}}},
		{"a boost", 19, 999, []float64{499}, Plan{494, 26, []uint32{1}}},
		{"all at once", 19, 999, []float64{499, 99, 1.9, 0}, Plan{494, 26, []uint32{1, 5, 260, 0}}},
		{"no whole multiple", 19, 999, []float64{20}, Plan{19, 1, []uint32{1}}},
		{"more than may be", 19, 100, []float64{499, 99}, Plan{95, 5, []uint32{1, 1}}},
		{"nothing left for a boost", 19, 37, []float64{499, 1.9}, Plan{19, 1, []uint32{1, 10}}},
		{"less than the base", 19, 4, []float64{499, 1.9}, Plan{4, 1, []uint32{1, 2}}},
		{"next to never", 1, 1, []float64{1e-300}, Plan{1, 1, []uint32{maxWeight}}},
		{"not a rate", 19, 999, []float64{-5, math.Inf(-1)}, Plan{19, 1, []uint32{0, 0}}},
		{"without end", 19, 999, []float64{math.Inf(1)}, Plan{988, 52, []uint32{1}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := NewPlan(tt.base, tt.most, tt.rates...); !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

// Whatever is asked for: the event keeps to its limit and gives the base its rate, and a
// rate is at most a factor of 1.5 off what was asked for, if the event allows it.
func TestPlanKeepsItsWord(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 100_000 {
		base, most, rate := 1+random.IntN(200), 1+random.IntN(5000), random.Float64()*1000
		p := NewPlan(base, most, rate)
		if p.Frequency < 1 || p.Frequency > most || p.Frequency != min(base, most)*int(p.Usual) {
			t.Fatalf("base %d, at most %d, rate %v: %+v", base, most, rate, p)
		}
		got, want := float64(p.Frequency)/float64(p.Weights[0]), min(rate, float64(p.Frequency))
		if got > 1.5*want || want > 1.5*got {
			t.Fatalf("base %d, at most %d: %v samples a second, want %v: %+v", base, most, got, want, p)
		}
	}
}
