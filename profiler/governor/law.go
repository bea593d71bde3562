// SPDX-License-Identifier: Apache-2.0

package governor

import "slices"

// The constants of the law. docs/selection.md has the reasons. Times are in rounds.
const (
	floor = 1 // Hz
	// soon is how many rounds must each cost too much to be enough, and how many there must be at a new frequency
	// to be judged together: profiles are encoded in every second one.
	soon = 2
	// minute is how many rounds are judged together at most.
	minute = 12
	// goalDown and goalUp are the parts of the budget that a change of frequency aims at,
	// as if all of the cost went with it. Less on the way down, because not all does.
	goalDown = 0.7
	goalUp   = 0.9
	// slack is the part of the budget below which the frequency may go up.
	slack = 0.8
	// steepest is by how much one step divides the frequency at most, gentlest by how
	// much it multiplies it.
	steepest = 8
	gentlest = 1.5
	// telling is the part of a cost that must have gone with the last step down for the two
	// costs to tell how much goes with the frequency. Else something else has changed.
	telling = 0.1
	// patience is how many rounds come before a step up, and mostPatience how many when
	// steps up were taken back again and again.
	patience     = 6
	mostPatience = 120
	// regret is for how many rounds after a step up a step down takes that back.
	regret = 12
	// none says that there is no step up to be taken back.
	none = -1
)

// law says what frequency a cost calls for: quickly down, slowly up. It knows neither
// clocks nor programs. Not safe for concurrent use.
type law struct {
	budget float64
	// frequency is the present one; free says that it is what is wanted.
	frequency int
	free      bool
	// costs are those of the last rounds at this frequency, at most minute of them.
	costs []float64
	// rounds is how many there were at this frequency, wait how many there must be
	// before a step up.
	rounds, wait int
	// sinceUp is how many there were since the last step up, or none if that was taken back or has held.
	sinceUp int
	// before is the last step down, if it led here.
	before step
}

// step is a frequency that was too high, and what it cost.
type step struct {
	frequency int
	cost      float64
}

func newLaw(budget float64, wanted int) *law {
	return &law{budget: budget, frequency: wanted, free: true, wait: patience, sinceUp: none}
}

// setBudget takes a budget, which may be another one, and the frequency that is wanted. What
// was learned of steps up was about the one before. 0 is no limit.
func (l *law) setBudget(budget float64, wanted int) {
	if budget != l.budget {
		l.budget, l.wait, l.sinceUp = budget, patience, none
	}
	if budget == 0 {
		l.set(wanted, wanted)
	}
}

// observe takes the cost of a round, and the frequency that is wanted now, and returns
// the one to sample with.
func (l *law) observe(cost float64, wanted int) int {
	if l.free && l.frequency != wanted || l.frequency > wanted {
		l.set(wanted, wanted) // what it costs is seen in the rounds to come
		return l.frequency
	}
	l.costs = append(l.costs, cost)
	if len(l.costs) > minute {
		l.costs = slices.Delete(l.costs, 0, 1)
	}
	l.rounds++
	if l.sinceUp != none {
		l.sinceUp++
	}
	if l.sinceUp > regret {
		l.wait, l.sinceUp = patience, none
	}
	if over := l.over(); over > 0 {
		l.down(over, wanted)
	} else if !l.free && l.rounds >= l.wait && mean(l.costs) < slack*l.budget {
		l.up(mean(l.costs), wanted)
	}
	return l.frequency
}

// over is the cost that is too high; 0 if none is. What happens once, such as that names of a new program are
// read, may take what the minute has left: a lower frequency would not have made it cheaper.
func (l *law) over() float64 {
	n := len(l.costs)
	if n < soon {
		return 0
	}
	if last := l.costs[n-soon:]; slices.Min(last) > l.budget {
		return mean(last)
	}
	cost := mean(l.costs[n%soon:])
	spent := cost
	if l.free { // nothing was too much so far
		spent *= float64(n) / minute
	}
	if spent > l.budget {
		return cost
	}
	return 0
}

func (l *law) down(cost float64, wanted int) {
	to := int(float64(l.frequency) * l.part(cost))
	if l.sinceUp != none {
		l.wait = min(2*l.wait, mostPatience)
	}
	l.sinceUp = none
	if to = max(to, floor); to < l.frequency {
		from := step{l.frequency, cost}
		l.set(to, wanted)
		l.before = from
	}
}

// part is what is to be left of a frequency that costs too much. If a step down that was
// just made was not enough, the two costs tell how much goes with the frequency: the rest
// stays whatever is done.
func (l *law) part(cost float64) float64 {
	goal := goalDown * l.budget
	part := goal / cost
	if l.before.frequency > 0 && l.rounds <= patience {
		perHertz := max(l.before.cost-cost, 0) / float64(l.before.frequency-l.frequency)
		moves := perHertz * float64(l.frequency)
		if moves >= telling*cost {
			part = min(part, (goal-(cost-moves))/max(moves, goal/steepest))
		}
	}
	return max(part, 1.0/steepest)
}

func (l *law) up(cost float64, wanted int) {
	factor := min(goalUp*l.budget/cost, gentlest)
	l.set(min(max(int(float64(l.frequency)*factor), l.frequency+1), wanted), wanted)
	l.sinceUp = 0
}

func (l *law) set(frequency, wanted int) {
	l.frequency, l.free = frequency, frequency == wanted
	l.costs, l.rounds, l.before = l.costs[:0], 0, step{}
}

// exhausted tells whether the cost is too high and nothing more can be done.
func (l *law) exhausted() bool {
	return l.frequency == floor && len(l.costs) > 0 && l.over() > 0
}

func mean(all []float64) float64 {
	sum := 0.0
	for _, x := range all {
		sum += x
	}
	return sum / float64(len(all))
}
