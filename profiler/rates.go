// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"errors"
	"fmt"
	"time"

	"github.com/fleetprof/fleetprof/bpf"
	"github.com/fleetprof/fleetprof/sample"
)

// Rates say how often processes are sampled. docs/selection.md tells what becomes of a
// tick.
type Rates struct {
	// Frequency is ticks per second and CPU.
	Frequency int
	// Usual is how many ticks of a process one sample stands for, if nothing else was
	// decided about it, as about every process until its first sample. 0 is 1.
	Usual uint32
	// Weigh decides that for a process; 0: it is not sampled. It is called, as Sink is,
	// with the first sample of each program that a process executes, and again if its
	// cgroup is another one then. What is not final is decided again with the next
	// sample, for settling, and a 0 is then the usual weight. nil: all have the usual weight.
	Weigh func(p sample.Process, cgroupID uint64) (weight uint32, final bool)
}

func (r Rates) usual() uint32 { return max(r.Usual, 1) }

// SetRates changes the rates of sampling. All processes known are decided about anew.
// Samples carry what they stand for, so that sums stay right whenever it happens. It
// must not be called by a sink or by Weigh, and before Run it waits for that.
func (p *Profiler) SetRates(r Rates) (err error) {
	period, err := Period(p.opts.Event, r.Frequency)
	if err != nil {
		return err
	}
	p.Between(func() {
		err = p.cpus.setCadence(cadence{period, PeriodNanoseconds(r.Frequency)})
		p.selection.change(r)
	})
	return err
}

// cadence is the distance between two ticks in units of the event, and the CPU time that
// one stands for, in nanoseconds.
type cadence struct{ period, nanoseconds uint64 }

// first is the pace of a CPU whose ticks begin.
func (c cadence) first() bpf.Pace {
	return bpf.Pace{PeriodNs: uint32(c.nanoseconds)}
}

// after is the pace of a CPU whose ticks came in another cadence since some time, and
// come in this one from now on. The timer begins anew with that (__perf_event_period()
// in kernel/events/core.c), so what had passed since the last tick is in none: the next
// one stands for it. It may hit idle, where no program runs, hence the limit in time.
func (c cadence) after(before cadence, since, now uint64) bpf.Pace {
	return bpf.Pace{
		PeriodNs: uint32(c.nanoseconds),
		FirstNs:  uint32(c.nanoseconds + (now-since)%before.nanoseconds),
		SecondAt: now + c.nanoseconds + c.nanoseconds/2,
	}
}

// setCadence changes that of the ticks on all CPUs, and on those that come.
func (c *cpus) setCadence(to cadence) error {
	before := c.cadence
	c.cadence = to
	if to == before {
		return nil
	}
	var errs []error
	for number, open := range c.byNo {
		if err := setPeriod(open.tick, to.period); err != nil {
			errs = append(errs, fmt.Errorf("set period on cpu %d: %w", number, err))
			continue
		}
		now := monotonic()
		// The first tick comes an interval from here, and finds this.
		errs = append(errs, c.setPace(number, to.after(before, open.since, now)))
		open.since = now
	}
	return errors.Join(errs...)
}

// lostSince is what the ticks stood for that were lost between two readings.
func lostSince(before, now bpf.Counters) (ticks uint64, cpu time.Duration) {
	return now.LostWeight - before.LostWeight, time.Duration(now.LostNanoseconds - before.LostNanoseconds)
}
