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
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf/ringbuf"
	"github.com/prometheus/client_golang/prometheus"

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

// ring is a [bpf.Ring].
type ring interface {
	Wait(deadline time.Time) error
	ReadInto(*ringbuf.Record) error
	Close() error
}

// Profiler is the sampler at work. Run may be called once; Close and Files are
// safe for concurrent use with it.
type Profiler struct {
	opts      Options
	log       *slog.Logger
	stats     *stats
	sampler   *bpf.Sampler
	ring      ring
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
	if p.ring, err = p.sampler.OpenRing(); err != nil {
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
