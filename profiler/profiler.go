// SPDX-License-Identifier: Apache-2.0

// Package profiler samples what every CPU of this host executes and follows
// which processes live, so that each stack leaves it as (object, offset). It
// knows no names, containers or uploads.
//
// Two streams come from the kernel: ticks through a BPF ring, and process
// events (fork, exec, mmap, exit) through perf rings, one a CPU. Both carry
// CLOCK_MONOTONIC times. They are read together at every poll and replayed in
// the order of their times, so that each tick meets the mappings its process
// had at that moment, even of a process that has ended since.
package profiler

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf/ringbuf"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"

	"github.com/fleetprof/fleetprof/bpf"
	"github.com/fleetprof/fleetprof/internal/procfs"
	"github.com/fleetprof/fleetprof/sample"
)

// Sink takes what the profiler makes. Its methods are called from Run's
// goroutine, one at a time; they must be quick.
type Sink interface {
	Sample(*sample.Sample)
	// Lost says that so many more ticks have happened, of that CPU time in all, of
	// which nothing else is known.
	Lost(ticks uint64, cpu time.Duration)
}

// RequestSink takes what tells of requests, as Sink takes samples and from the same
// goroutine. Activities and samples come in the order of their times, but for
// samples that had to wait for a table: those do not say who executed.
type RequestSink interface {
	// Activity must not keep its argument.
	Activity(*sample.Activity)
	// LostActivities says that n more activities have happened by now.
	LostActivities(n uint64)
	// Exited says that the main thread of a process has ended, or that the process
	// executes another program.
	Exited(pid uint32)
}

// Options say what to sample and where it goes. All fields but Requests are needed.
type Options struct {
	Rates
	Event     Event
	RingBytes int
	// TableBlocks is the memory for unwind tables in MiB.
	TableBlocks int
	// Requests takes what tells of requests; nil: nobody looks for it. The ring it
	// comes through has a size of its own.
	Requests          RequestSink
	ActivityRingBytes int
	// RequestHeaders makes activities begin with more bytes of requests, for header
	// fields to be read.
	RequestHeaders bool
	// CgroupSubsystem selects the hierarchy of Sample.CgroupID, see
	// bpf.Options.
	CgroupSubsystem int
	Proc            procfs.FS
	Sink            Sink
	Logger          *slog.Logger
	Registerer      prometheus.Registerer
}

const (
	// pollEvery is how long ticks and events wait in their rings. A file of a
	// process that has ended within this time may be gone with it.
	pollEvery = 50 * time.Millisecond
	// lateEvery is how long a late tick waits: until then the kernel side will send
	// the stacks of that process, whole.
	lateEvery = 10 * time.Millisecond
	// settle is how far behind now the replay stays, in nanoseconds: an event
	// is stamped a moment before it becomes visible in its ring.
	settle = 5e6
	// epochLength is how long stacks and the use of tables are remembered.
	epochLength = 10 * time.Second
	// tablesAtEnd is how long the last ticks wait for tables when Run ends.
	tablesAtEnd = 300 * time.Millisecond
	// houseEvery is how often CPUs, ended processes and losses are looked at.
	houseEvery = time.Second
)

// Profiler is the sampler at work. Run may be called once; Close and Files are
// safe for concurrent use with it.
type Profiler struct {
	opts      Options
	log       *slog.Logger
	stats     *stats
	sampler   *bpf.Sampler
	ring      *ringbuf.Reader
	cpus      *cpus
	processes *processes
	files     *Files
	tables    *tables
	lists     *lists
	walker    *walker
	programs  *programs
	selection *selection
	contexts  *contexts
	kernel    *kernelCollector
	// activities is nil if requests are not followed.
	activities *activities

	// calls are made between two replays, until ended is closed.
	calls chan func()
	ended chan struct{}

	decoder *decoder
	ticks   []tick
	events  []event
	record  ringbuf.Record
	// epoch counts up, see bpf.Sampler.SetEpoch.
	epoch   uint32
	epochAt time.Time    // when it began
	lost    bpf.Counters // those already handed to the sink
	polled  atomic.Int64 // CLOCK_MONOTONIC
}

// New loads the sampler and opens its events on every online CPU; nothing is
// sampled before Run. An error that a user can do something about is, or
// wraps, a *bpf.Unsupported.
func New(opts Options) (_ *Profiler, err error) {
	period, err := Period(opts.Event, opts.Frequency)
	if err != nil {
		return nil, err
	}
	p := &Profiler{
		opts: opts, log: opts.Logger, stats: newStats(opts.Registerer),
		calls: make(chan func()), ended: make(chan struct{}),
		decoder: newDecoder(), epoch: 1, epochAt: time.Now(),
	}
	p.processes = newProcesses(opts.Proc, monotonic, p.stats)
	p.files = newFiles(opts.Proc, p.stats)
	defer func() {
		if err != nil {
			err = errors.Join(err, p.Close())
		}
	}()
	p.sampler, err = bpf.Load(bpf.Options{
		RingBytes: opts.RingBytes, TableBlocks: opts.TableBlocks, CgroupSubsystem: opts.CgroupSubsystem,
	})
	if err != nil {
		return nil, err
	}
	p.newWalker(p.sampler.Memory(), p.sampler)
	p.selection = newSelection(p.sampler, opts.Rates, p.log, opts.Registerer)
	p.programs = newPrograms(p.sampler, images(p.files, opts.Proc), func(pid uint32) *process { return p.processes.byPID[pid] }, p.log)
	p.contexts = newContexts(p.sampler, opts.Proc, p.log, opts.Registerer)
	if opts.Requests != nil {
		if p.activities, err = newActivities(p.sampler, bpf.RequestOptions{RingBytes: opts.ActivityRingBytes, Headers: opts.RequestHeaders}); err != nil {
			return nil, err
		}
		p.programs.probe = p.activities.requests.Probe
		p.activities.libraries = newLibraries(images(p.files, opts.Proc), p.activities.requests.ProbeTLS, p.log, opts.Registerer)
	}
	p.kernel = newKernelCollector(p.sampler)
	if p.activities != nil {
		p.kernel.requests = p.activities.requests
	}
	opts.Registerer.MustRegister(p.kernel)
	if p.ring, err = p.sampler.NewReader(); err != nil {
		return nil, err
	}
	p.cpus = &cpus{
		online: onlineCPUs, byNo: make(map[int]*cpu), setPace: p.sampler.SetPace,
		cadence: cadence{period, PeriodNanoseconds(opts.Frequency)},
	}
	p.cpus.open = func(number int) (*cpu, error) {
		side, err := newSideband(number)
		if err != nil {
			return nil, err
		}
		tick, err := openTick(number, opts.Event, p.cpus.cadence.period, p.sampler.ProgramFD())
		if err != nil {
			side.close()
			return nil, err
		}
		return &cpu{tick: tick, side: side}, nil
	}
	if err := p.cpus.update(p.drain); err != nil {
		return nil, err
	}
	return p, nil
}

// newWalker makes what keeps the kernel side's tables, and walks in its stead.
func (p *Profiler) newWalker(memory *bpf.Memory, kernel processMap) {
	stats := newTableStats(p.opts.Registerer)
	shelf := newShelf(memory, monotonic, stats)
	p.lists = newLists(memory, kernel, shelf, monotonic, stats)
	p.tables = newTables(shelf, images(p.files, p.opts.Proc), p.log, stats)
	p.walker = &walker{
		region: p.processes.region,
		lookup: shelf.lookup,
		want: func(r *region, t *tick, proc *process) {
			if r.object.Kind == sample.File {
				p.files.hold(r, t.TID, proc.parent)
			}
			p.tables.want(r.object)
		},
	}
}

// Files gives access to the files of sampled objects.
func (p *Profiler) Files() *Files { return p.files }

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
	if _, err := p.poll(); err != nil {
		return err
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

// poll reads the ring until pollEvery has passed, or lateEvery since a late tick,
// then the side-band. What happened before the horizon is then in hand: it lies
// before the first look into any ring of events.
func (p *Profiler) poll() (horizon uint64, err error) {
	deadline := time.Now().Add(pollEvery)
	p.ring.SetDeadline(deadline)
	for {
		err := p.ring.ReadInto(&p.record)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
		if err != nil {
			return 0, fmt.Errorf("read ring: %w", err)
		}
		t, ok, err := p.decoder.decode(p.record.RawSample)
		if err != nil {
			p.stats.badRecords.Inc()
			p.log.Debug("record dropped", "error", err)
			p.opts.Sink.Lost(1, time.Duration(p.cpus.cadence.nanoseconds))
		}
		if !ok {
			continue
		}
		p.ticks = append(p.ticks, t)
		if soon := time.Now().Add(lateEvery); t.late != nil && soon.Before(deadline) {
			deadline = soon
			p.ring.SetDeadline(deadline)
		}
	}
	if err := p.nextEpoch(); err != nil {
		return 0, err
	}
	p.polled.Store(int64(monotonic()))
	until, err := p.pollActivities()
	if err != nil {
		return 0, err
	}
	horizon = min(monotonic()-settle, until)
	for _, c := range p.cpus.byNo {
		p.drain(c.side)
	}
	return horizon, nil
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

// replay applies events and hands on samples in the order of their times, up
// to the horizon; what is younger waits for the next time.
func (p *Profiler) replay(horizon uint64) {
	slices.SortStableFunc(p.events, func(a, b event) int { return cmp.Compare(a.time, b.time) })
	slices.SortStableFunc(p.ticks, func(a, b tick) int { return cmp.Compare(a.Time, b.Time) })
	events, ticks := p.events, p.ticks
	for len(ticks) > 0 && ticks[0].Time <= horizon {
		for len(events) > 0 && events[0].time <= ticks[0].Time {
			p.before(events[0].time)
			p.apply(events[0])
			events = events[1:]
		}
		p.before(ticks[0].Time)
		p.take(&ticks[0])
		ticks = ticks[1:]
	}
	for len(events) > 0 && events[0].time <= horizon {
		p.before(events[0].time)
		p.apply(events[0])
		events = events[1:]
	}
	p.before(horizon)
	p.events = append(p.events[:0], events...)
	rest := len(ticks)
	p.ticks = append(p.ticks[:0], ticks...)
	clear(p.ticks[rest:cap(p.ticks)]) // let go of their memory
}

// before hands on the activities up to a time.
func (p *Profiler) before(time uint64) {
	if p.activities != nil {
		p.activities.until(time, p.opts.Requests, p.admit)
	}
}

// admit looks at an activity, and says whether it is to be handed on.
func (p *Profiler) admit(a *activity) bool {
	switch {
	case a.Executor.Kind == sample.UnknownExecutor:
		p.meet(a)
	case a.needsClose() && !p.followsCloses(a.Time):
		p.stats.unfollowed.Inc()
		return false
	}
	return true
}

// meet sees to it that it will be known who executes in a process that serves requests.
func (p *Profiler) meet(a *activity) {
	if proc := p.processes.byPID[a.PID]; proc != nil {
		p.executes(a.PID, a.TID, proc, a.space, a.Kind == sample.Read)
	}
}

// executes sees to it that the kernel side knows who executes in a process. serves says
// that it was seen to serve requests.
func (p *Profiler) executes(pid, tid uint32, proc *process, space addressSpace, serves bool) {
	want := func(r *region) { p.files.hold(r, tid, proc.parent) }
	p.programs.meet(pid, proc, space, want)
	if serves {
		p.programs.serves(pid, proc, want)
	}
}

func (p *Profiler) apply(e event) {
	p.stats.events.Inc()
	p.processes.apply(e)
	switch e.kind {
	case eventFork, eventExit:
		p.selection.forget(e.pid)
	case eventLost:
		p.selection.forgetAll()
	}
	if p.opts.Requests != nil && (e.kind == eventExit || e.kind == eventExec) {
		p.opts.Requests.Exited(e.pid)
	}
	p.unlistEnded()
}

// unlistEnded makes the kernel side forget the processes that have ended, before a
// tick of another one with the same number is looked at.
func (p *Profiler) unlistEnded() {
	for _, pid := range p.processes.ended {
		p.lists.remove(pid)
		p.selection.forget(pid)
		p.programs.ended(pid)
		if p.activities != nil {
			p.activities.libraries.ended(pid)
		}
		p.contexts.ended(pid)
	}
	p.processes.ended = p.processes.ended[:0]
}

// take finds the process of a tick and hands the tick on, at once or when its
// stack can be walked.
func (p *Profiler) take(t *tick) {
	if t.KernelThread {
		if p.selection.admit(t, nil) {
			p.handOn(t, nil)
		}
		return
	}
	proc := p.processes.lookup(&t.Raw)
	if !p.selection.admit(t, proc) {
		return
	}
	if proc != nil {
		p.executes(t.PID, t.TID, proc, t.space, t.Request.Source != "")
		if t.Executor.Kind == sample.Thread {
			p.contexts.meet(t)
		}
	}
	switch {
	case proc == nil && t.late != nil:
		t.User, t.Stop = []uint64{t.late.registers.IP}, sample.StopCode
	case t.late != nil:
		walked := p.walker.walk(t, proc)
		p.list(t.PID, proc, t.space)
		if !walked && p.walker.park(*t, proc) {
			return
		}
	case proc != nil:
		p.lists.touch(t.PID)
	}
	p.handOn(t, proc)
}

// list gives the kernel side the mappings of a process, so that it walks the
// stacks of this address space itself.
func (p *Profiler) list(pid uint32, proc *process, space addressSpace) {
	if p.lists.touch(pid) && proc.listed == space && proc.current {
		return
	}
	proc.listed = space
	proc.current = p.lists.install(pid, space.mm, space.execID, proc.regions.lower()) == nil
}

// handOn hands a tick to the sink.
func (p *Profiler) handOn(t *tick, proc *process) {
	if t.Stop.Truncated() {
		p.stats.truncated.WithLabelValues(t.Stop.String()).Inc()
	}
	p.stats.samples.Inc()
	p.opts.Sink.Sample(p.processes.locate(&t.Raw, proc, p.files.hold))
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

// Close ends sampling and takes everything out of the kernel. It is
// idempotent; call it after Run has returned.
func (p *Profiler) Close() error {
	if p.cpus != nil {
		p.cpus.close()
	}
	p.files.close()
	if p.kernel != nil {
		p.opts.Registerer.Unregister(p.kernel)
	}
	var errs []error
	if p.ring != nil {
		errs = append(errs, p.ring.Close())
	}
	if p.tables != nil {
		p.tables.close()
	}
	if p.programs != nil {
		p.programs.close()
	}
	if p.activities != nil {
		errs = append(errs, p.activities.close())
	}
	if p.sampler != nil {
		errs = append(errs, p.sampler.Close())
	}
	return errors.Join(errs...)
}

// ClockZero is the time at which the clock of samples and activities was 0, as the
// wall clock stands now.
func ClockZero() time.Time { return time.Now().Round(0).Add(-time.Duration(monotonic())) }

// monotonic is CLOCK_MONOTONIC in nanoseconds, the clock of both streams.
func monotonic() uint64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic(err) // cannot happen: the clock is in POSIX
	}
	return uint64(ts.Nano())
}
