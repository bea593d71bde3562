// SPDX-License-Identifier: Apache-2.0

package governor

import (
	"math/rand/v2"
	"testing"
)

// host is what a frequency costs: fixed whatever it is, and some for each tick. Every
// second round a profile is encoded, which has most of the fixed part.
type host struct {
	fixed, perHertz float64
	noise           *rand.Rand
	round           int
}

func (h *host) cost(frequency int) float64 {
	h.round++
	cost := h.fixed*float64(h.round%2)*2*0.7 + h.fixed*0.3 + h.perHertz*float64(frequency)
	if h.noise != nil {
		cost *= 0.9 + 0.2*h.noise.Float64()
	}
	return cost
}

// mean is the cost over two rounds.
func (h *host) mean(frequency int) float64 { return h.fixed + h.perHertz*float64(frequency) }

// run lets rounds pass and returns the frequencies.
func (h *host) run(l *law, wanted, rounds int) (all []int) {
	for range rounds {
		all = append(all, l.observe(h.cost(l.frequency), wanted))
	}
	return all
}

func changes(all []int) (n int) {
	for i := range all[1:] {
		if all[i] != all[i+1] {
			n++
		}
	}
	return n
}

// A load that costs five times the budget is under it within 30 seconds, six rounds,
// and stays there without more than a step now and then.
func TestLawSettlesQuickly(t *testing.T) {
	const budget = 0.01
	for name, h := range map[string]*host{
		"all by ticks":  {perHertz: 0.05 / 499},
		"half is fixed": {fixed: 0.005, perHertz: 0.045 / 499},
		"most is fixed": {fixed: 0.009, perHertz: 0.041 / 499},
		"with noise":    {fixed: 0.003, perHertz: 0.047 / 499, noise: rand.New(rand.NewPCG(1, 2))},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLaw(budget, 499)
			all := h.run(l, 499, 6)
			if cost := h.mean(l.frequency); cost > budget {
				t.Errorf("it costs %.4f after 30 s, %v", cost, all)
			}
			later := h.run(l, 499, 720) // an hour
			above := 0
			for _, f := range later {
				if h.mean(f) > budget*1.05 {
					above++
				}
			}
			// A step up that was too much is taken back within two rounds, and comes
			// ever less often.
			if n := changes(later); above > 20 || n > 40 {
				t.Errorf("over the budget in %d of 720 rounds, %d changes: %v", above, n, later)
			}
			if last := later[len(later)-1]; h.mean(last) < 0.5*budget {
				t.Errorf("%d Hz cost %.4f only", last, h.mean(last))
			}
		})
	}
}

// Once the load has gone the frequency comes back, in steps.
func TestLawRecovers(t *testing.T) {
	l := newLaw(0.01, 19)
	storm := host{fixed: 0.03, perHertz: 0.001}
	storm.run(l, 19, 12)
	if l.frequency != floor || !l.exhausted() {
		t.Fatalf("%d Hz in the storm, exhausted %v", l.frequency, l.exhausted())
	}
	calm := host{fixed: 0.001, perHertz: 0.0001}
	all := calm.run(l, 19, 12*5)
	if l.frequency != 19 || !l.free || l.exhausted() {
		t.Errorf("%d Hz after five minutes of calm: %v", l.frequency, all)
	}
	for i := range all[1:] {
		if all[i+1] > all[i]*2 {
			t.Errorf("from %d to %d Hz in one step", all[i], all[i+1])
		}
	}
}

// Something that has nothing to do with the frequency costs a little too much for 30 s, such as
// reading names at a start: the frequency goes down step by step, not to the floor at once.
func TestLawKeepsWhatCostsNothing(t *testing.T) {
	l := newLaw(0.01, 19)
	start := host{fixed: 0.0105}
	all := start.run(l, 19, 6)
	if l.frequency < 5 {
		t.Errorf("%d Hz at the end of it: %v", l.frequency, all)
	}
	calm := host{fixed: 0.001, perHertz: 0.0001}
	if all := calm.run(l, 19, 30); l.frequency != 19 {
		t.Errorf("%d Hz two and a half minutes later: %v", l.frequency, all)
	}
}

// A dear round now and then changes nothing while the minute is within the budget, neither without a limit nor
// with one.
func TestLawIsPatient(t *testing.T) {
	const budget, calm, dear = 0.01, 0.003, 0.06
	l := newLaw(budget, 19)
	for i := range 100 {
		cost := calm
		if i%minute == 0 {
			cost = dear
		}
		if f := l.observe(cost, 19); f != 19 {
			t.Fatalf("%d Hz in round %d", f, i)
		}
	}
	l.observe(2*budget, 19)
	if l.observe(2*budget, 19); l.frequency == 19 {
		t.Fatal("nothing follows from what goes on")
	}
	for range patience - 1 {
		l.observe(budget*slack, 19)
	}
	limited := l.frequency
	if l.observe(1.5*budget, 19); l.frequency != limited {
		t.Errorf("%d Hz after one round, had %d", l.frequency, limited)
	}
}

// A cost that is a little below the budget, most of it in every second round, is no reason for steps up and down; and
// steps up that are taken back again come ever later.
func TestLawRests(t *testing.T) {
	near := host{fixed: 0.00105, perHertz: 0.0000945}
	l := newLaw(0.01, 100)
	if all := near.run(l, 100, 720); changes(all) > 4 {
		t.Errorf("%d changes in an hour: %v", changes(all), all)
	}
	for range 1000 { // each step up meets something dear
		cost := 0.001
		if l.free || l.sinceUp != none {
			cost = 0.02
		}
		l.observe(cost, 100)
	}
	if l.wait != mostPatience {
		t.Errorf("the next step up comes after %d rounds, want %d", l.wait, mostPatience)
	}
}

// Dear rounds that are more than the minute's budget together have their consequence, however short each is.
func TestLawAddsUp(t *testing.T) {
	l := newLaw(0.01, 19)
	for i := range 2 * minute {
		cost := 0.001
		if i%4 == 0 {
			cost = 0.05
		}
		l.observe(cost, 19)
	}
	if l.frequency == 19 {
		t.Error("three rounds of 5 % in a minute are no cost")
	}
}

// What is wanted changes: a boost begins and ends.
func TestLawFollowsWhatIsWanted(t *testing.T) {
	l := newLaw(0.01, 19)
	h := host{perHertz: 0.02 / 499}
	h.run(l, 19, 10)
	if f := l.observe(h.cost(19), 494); f != 494 {
		t.Errorf("a boost begins at %d Hz", f)
	}
	h.run(l, 494, 6)
	if h.mean(l.frequency) > 0.01 {
		t.Errorf("a boost goes on at %d Hz", l.frequency)
	}
	if f := l.observe(h.cost(l.frequency), 19); f != 19 || !l.free {
		t.Errorf("after the boost: %d Hz", f)
	}
}

// Whatever it is told: the frequency is between the floor and what is wanted.
func FuzzLaw(f *testing.F) {
	f.Add(uint64(1))
	f.Fuzz(func(t *testing.T, seed uint64) {
		random := rand.New(rand.NewPCG(seed, 0))
		wanted := 1 + random.IntN(5000)
		l := newLaw(0.01, wanted)
		for range 300 {
			if random.IntN(20) == 0 {
				wanted = 1 + random.IntN(5000)
			}
			if got := l.observe(random.ExpFloat64()*0.02, wanted); got < floor || got > wanted {
				t.Fatalf("%d Hz, wanted %d", got, wanted)
			}
		}
	})
}

// Another budget holds from the next round on, without the patience that the one before has
// taught; none lets go at once.
func TestBudgetChanges(t *testing.T) {
	l := newLaw(0.01, 100)
	cost := func() float64 { return 0.0005 * float64(l.frequency) } // 5 % at 100 Hz
	l.observe(cost(), 100)
	if l.observe(cost(), 100); l.frequency > 20 {
		t.Fatalf("%d Hz", l.frequency)
	}
	l.wait = mostPatience
	l.setBudget(0.04, 100)
	for range 3 * patience {
		l.observe(cost(), 100)
	}
	if got := cost(); l.frequency < 40 || got > 0.04 {
		t.Errorf("%d Hz, which cost %v", l.frequency, got)
	}
	l.setBudget(0, 100)
	if l.frequency != 100 || !l.free {
		t.Errorf("%d Hz without a budget", l.frequency)
	}
	l.setBudget(0.01, 100)
	l.observe(cost(), 100)
	if l.observe(cost(), 100); l.frequency > 20 {
		t.Errorf("%d Hz with a budget again", l.frequency)
	}
}
