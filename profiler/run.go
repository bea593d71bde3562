// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"
)

// Run samples until ctx ends and then hands on what is still in the rings.
func (p *Profiler) Run(ctx context.Context) error {
	defer close(p.ended)
	// Events first, then the scan: nothing can happen in between unseen.
	if err := p.cpus.enableSide(); err != nil {
		return err
	}
	if err := p.processes.scan(); err != nil {
		return fmt.Errorf("read processes: %w", err)
	}
	if p.activities != nil {
		if err := p.activities.requests.Attach(); err != nil {
			return err
		}
	}
	if err := p.cpus.enableTicks(); err != nil {
		return err
	}
	p.programs.start(context.WithoutCancel(ctx))
	defer p.programs.stop()
	if p.activities != nil {
		p.activities.libraries.start(context.WithoutCancel(ctx))
	}
	p.tables.start(context.WithoutCancel(ctx))
	defer p.tables.close()
	p.polled.Store(int64(monotonic()))
	p.keepHouse()
	house := time.Now()
	for ctx.Err() == nil {
		horizon, err := p.poll()
		if err != nil {
			return err
		}
		p.replay(horizon)
		p.keepTables()
		select {
		case f := <-p.calls:
			f()
		default:
		}
		if time.Since(house) >= houseEvery {
			house = time.Now()
			p.keepHouse()
		}
	}
	p.cpus.stop()
	for range activityLooks { // all there is: it fits into the rings
		if _, err := p.poll(); err != nil {
			return err
		}
		if !p.activities.isBehind() {
			break
		}
	}
	p.replay(^uint64(0))
	p.finishLate()
	p.keepHouse()
	return nil
}

// Between calls f between two calls of the sinks, within 50 ms or so, and returns when
// it has returned. It must not be called by a sink, nor before Run.
func (p *Profiler) Between(f func()) {
	done := make(chan struct{})
	select {
	case p.calls <- func() { defer close(done); f() }:
		<-done
	case <-p.ended:
		f()
	}
}

// keepTables gives the kernel side what it asked for.
func (p *Profiler) keepTables() {
	for _, pid := range p.processes.changed {
		if proc := p.processes.byPID[pid]; proc != nil && proc.listed != (addressSpace{}) {
			p.list(pid, proc, proc.listed)
		}
	}
	p.processes.changed = p.processes.changed[:0]
	p.lists.poll()
	p.programs.poll()
	p.contexts.poll()
	settled := p.tables.settled
	p.tables.poll(p.epoch)
	if now := monotonic(); p.tables.settled != settled || p.walker.tooLong(now) {
		p.walker.retry(now, p.handOn)
	}
}

// finishLate hands on the ticks that wait for tables, with or without them.
func (p *Profiler) finishLate() {
	for end := time.Now().Add(tablesAtEnd); len(p.walker.waiting) > 0 && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
		p.keepTables()
	}
	p.walker.retry(^uint64(0), p.handOn)
}

// poll reads the rings of ticks and of activities, then the side-band. What happened before
// the horizon is then in hand: it lies before the first look into any ring of events.
func (p *Profiler) poll() (horizon uint64, err error) {
	ticked, err := p.pollTicks()
	if err != nil {
		return 0, err
	}
	if err := p.nextEpoch(); err != nil {
		return 0, err
	}
	p.polled.Store(int64(monotonic()))
	active, err := p.pollActivities()
	if err != nil {
		return 0, err
	}
	horizon = min(monotonic()-settle, ticked, active)
	for _, c := range p.cpus.byNo {
		p.drain(c.side)
	}
	return horizon, nil
}

// pollTicks reads the ring of ticks until pollEvery has passed, or lateEvery since a late tick; it
// does not wait while there are activities to be read. No tick until a time is missing then.
func (p *Profiler) pollTicks() (until uint64, err error) {
	deadline := time.Now()
	if !p.activities.isBehind() {
		deadline = deadline.Add(pollEvery)
	}
	var latest uint64
	take := func(raw []byte) {
		t, ok, err := p.decoder.decode(raw)
		if err != nil {
			p.stats.badRecords.Inc()
			p.log.Debug("record dropped", "error", err)
			p.opts.Sink.Lost(1, time.Duration(p.cpus.cadence.nanoseconds))
		}
		if !ok {
			return
		}
		latest = max(latest, t.Time)
		p.ticks = append(p.ticks, t)
		if soon := time.Now().Add(lateEvery); t.late != nil && soon.Before(deadline) {
			deadline = soon
		}
	}
	for left := p.opts.RingBytes; ; {
		if err := p.ring.Wait(deadline); err != nil {
			return 0, err
		}
		emptied, err := readRing(p.ring, &p.record, &left, take)
		if err != nil {
			return 0, fmt.Errorf("read ring: %w", err)
		}
		if !emptied || !time.Now().Before(deadline) {
			return horizonOf(emptied, latest), nil
		}
	}
}

// readRing hands on the records of a ring until it is empty, or as many bytes as are left to be read
// of it were read: it may be filled as fast as an agent reads that has little CPU time itself. Of a
// ring of that size all that was in it at the beginning is read then. emptied says which it was.
func readRing(r ring, record *ringbuf.Record, left *int, f func(raw []byte)) (emptied bool, err error) {
	for *left > 0 {
		err := r.ReadInto(record)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return true, nil
		}
		if err != nil {
			return false, err
		}
		f(record.RawSample)
		*left -= len(record.RawSample) + unix.BPF_RINGBUF_HDR_SZ
	}
	return false, nil
}

// horizonOf is until when nothing is missing after a look into a ring, given the latest time in what
// was read.
func horizonOf(emptied bool, latest uint64) uint64 {
	if emptied {
		return never
	}
	return max(latest, settle) - settle
}

// pollActivities reads the ring of activities. Nothing that ticks until a time have to
// be compared with is missing then.
func (p *Profiler) pollActivities() (until uint64, err error) {
	if p.activities == nil {
		return never, nil
	}
	until, bad, err := p.activities.poll()
	p.stats.badRecords.Add(float64(bad))
	p.activities.sort()
	return until, err
}

// nextEpoch begins a new epoch when it is time. No more than once for each look
// into the ring: what is in it may refer to the epoch before.
func (p *Profiler) nextEpoch() error {
	if time.Since(p.epochAt) < epochLength && !p.decoder.frames.full() {
		return nil
	}
	p.epoch++
	p.epochAt = time.Now()
	if err := p.sampler.SetEpoch(p.epoch); err != nil {
		return err
	}
	p.decoder.frames.next()
	return nil
}

// SincePoll is how long ago Run last looked into its rings; it does so every
// 50 ms unless something is wrong.
func (p *Profiler) SincePoll() time.Duration {
	return time.Duration(int64(monotonic()) - p.polled.Load())
}

func (p *Profiler) drain(s *sideband) {
	s.drain(func(record []byte) {
		if e, ok := decodeEvent(record); ok {
			p.events = append(p.events, e)
		}
	})
}

// keepHouse does what need not be done at every poll.
func (p *Profiler) keepHouse() {
	if err := p.cpus.update(p.drain); err != nil {
		p.stats.cpuErrors.Inc()
		p.log.Error("cannot follow CPUs", "error", err)
	}
	p.processes.forget(monotonic())
	p.unlistEnded()
	p.stats.onlineCPUs.Set(float64(len(p.cpus.byNo)))
	p.stats.processes.Set(float64(len(p.processes.byPID)))
	p.stats.objects.Set(float64(p.processes.objects.count()))
	if p.activities != nil {
		p.lookForTLS()
	}
	c, err := p.sampler.Counters()
	if err != nil {
		p.log.Error("cannot count lost ticks", "error", err)
		return
	}
	// The counters are read one after the other, while ticks are counted.
	if ticks, cpu := lostSince(p.lost, c); ticks > 0 || cpu > 0 {
		p.opts.Sink.Lost(ticks, cpu)
		p.lost = c
	}
}
