// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/semaphore"

	"github.com/fleetprof/fleetprof/bpf"
	"github.com/fleetprof/fleetprof/internal/objfile"
	"github.com/fleetprof/fleetprof/internal/procfs"
	"github.com/fleetprof/fleetprof/profiler/unwind"
	"github.com/fleetprof/fleetprof/sample"
)

const (
	// maxWanted bounds the objects that wait for a table to be built. What finds
	// no place asks again with its next sample.
	maxWanted = 256
	// maxUnplaced bounds the tables that are built and not placed, in bytes, not
	// counting the last one built.
	maxUnplaced = 4 << 20
	// smallFile is the largest file, in bytes, that does not wait for larger ones: libc
	// and most programs of C are smaller. Its table takes some 10 ms.
	smallFile = 4 << 20
	// maxLarge bounds the larger files that are open and wait for their turn.
	maxLarge = 64
)

// tables builds the tables of objects beside the sampling, one at a time and beside a large
// one small ones, and places them on the shelf. Not safe for concurrent use.
type tables struct {
	shelf *shelf
	open  func(*sample.Object) (*image, error)
	log   *slog.Logger
	stats *tableStats

	wanted  chan *sample.Object
	large   chan opened
	built   chan *built
	waiting *built // for memory
	settled uint64 // builds that have come to an end
	// unplaced counts bytes, so that the builder cannot run ahead.
	unplaced *semaphore.Weighted
	cancel   context.CancelFunc
	builders sync.WaitGroup
}

// image is an ELF file of size bytes.
type image struct {
	io.ReaderAt
	io.Closer
	size int64
}

// opened is an object whose file is open.
type opened struct {
	object *sample.Object
	file   *image
}

// built is what came of building the table of an object.
type built struct {
	object *sample.Object
	table  *unwind.Table
	// starts are the file offsets of the regions' first bytes. One may lie before
	// the file's first byte: code starts there, the page of text before.
	starts []uint64
	err    error
}

// weight is what a table counts towards maxUnplaced.
func (b *built) weight() int64 {
	if b.table == nil {
		return 0
	}
	return min(int64(b.table.Bytes()), maxUnplaced)
}

// The reasons why an object has no table, but for errors in reading it.
var (
	errNotOpened     = errors.New("file could not be opened")
	errNoInformation = errors.New("no unwind information")
	errNoRoom        = errors.New("memory for tables is in use")
	errUnwanted      = errors.New("object is not used any more")
)

// newTables makes a builder; open gives it files and may take its time.
func newTables(shelf *shelf, open func(*sample.Object) (*image, error), log *slog.Logger, stats *tableStats) *tables {
	return &tables{
		shelf: shelf, open: open, log: log, stats: stats,
		wanted:   make(chan *sample.Object, maxWanted),
		large:    make(chan opened, maxLarge),
		built:    make(chan *built, maxWanted),
		unplaced: semaphore.NewWeighted(maxUnplaced),
		cancel:   func() {},
	}
}

// start starts building; close or the end of ctx ends it.
func (t *tables) start(ctx context.Context) {
	ctx, t.cancel = context.WithCancel(ctx)
	t.builders.Go(func() { t.openWanted(ctx) })
	t.builders.Go(func() { t.buildLarge(ctx) })
}

// close ends the builders, also half-way through a file. It is idempotent.
func (t *tables) close() {
	t.cancel()
	t.builders.Wait()
	for {
		select {
		case o := <-t.large:
			o.file.Close()
		default:
			return
		}
	}
}

// want asks for the table of an object, unless it is there, under way, or known
// not to be had.
func (t *tables) want(o *sample.Object) {
	e := t.shelf.get(o)
	if e == nil || e.asked || e.state != bpf.SegmentAbsent {
		return
	}
	select {
	case t.wanted <- o:
		e.asked = true
	default:
		t.stats.queueFull.Inc()
	}
}

// openWanted opens what is wanted, in that order, until ctx ends. It builds what is small
// and leaves the rest to buildLarge.
func (t *tables) openWanted(ctx context.Context) {
	for {
		var o opened
		select {
		case <-ctx.Done():
			return
		case o.object = <-t.wanted:
		}
		var err error
		if o.file, err = t.open(o.object); err != nil {
			t.hand(ctx, &built{object: o.object, err: fmt.Errorf("%w: %w", errNotOpened, err)})
			continue
		}
		if o.file.size <= smallFile {
			t.build(ctx, o)
			continue
		}
		select {
		case <-ctx.Done():
			o.file.Close()
			return
		case t.large <- o:
		}
	}
}

// buildLarge builds what is large, until ctx ends.
func (t *tables) buildLarge(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case o := <-t.large:
			t.build(ctx, o)
		}
	}
}

// hand gives a build to whom places it, once there is room for it.
func (t *tables) hand(ctx context.Context, b *built) {
	if t.unplaced.Acquire(ctx, b.weight()) != nil {
		return
	}
	select {
	case <-ctx.Done():
	case t.built <- b:
	}
}

// build builds the table of an object, closes its file and hands on what came of it.
func (t *tables) build(ctx context.Context, o opened) {
	b := &built{object: o.object}
	b.err = t.read(ctx, o.file, b)
	o.file.Close()
	t.hand(ctx, b)
}

// read fills in a table from a file.
func (t *tables) read(ctx context.Context, file *image, b *built) error {
	start := time.Now()
	elf, err := objfile.Open(until{ctx, file}, file.size)
	if err != nil {
		return err
	}
	if elf.Machine != machine() {
		return unwind.ErrUnsupported
	}
	table, err := unwind.Build(elf)
	t.stats.buildSeconds.Observe(time.Since(start).Seconds())
	if err != nil {
		return err
	}
	if len(table.Regions) == 0 {
		return errNoInformation
	}
	b.table = table
	for _, r := range table.Regions {
		b.starts = append(b.starts, fileStart(elf, r))
	}
	return nil
}

// until is a reader that gives no more once ctx has ended.
type until struct {
	ctx context.Context
	io.ReaderAt
}

func (u until) ReadAt(b []byte, off int64) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.ReaderAt.ReadAt(b, off)
}

// machine is the only one whose code runs here.
func machine() elf.Machine {
	if runtime.GOARCH == "arm64" {
		return elf.EM_AARCH64
	}
	return elf.EM_X86_64
}

// fileStart is the file offset that belongs to the start of a region, which may
// be up to a page of text before the segment it is in.
func fileStart(f *objfile.File, r unwind.Region) (offset uint64) {
	first := r.Limit
	for _, s := range f.Segments {
		// Of two segments that share a page of text the region is that of the first.
		if s.Flags&elf.PF_X != 0 && s.Address < first && s.Address+s.FileSize > r.Start {
			first, offset = s.Address, s.Offset+r.Start-s.Address
		}
	}
	return offset
}

// poll places what has been built, as far as there is memory.
func (t *tables) poll(epoch uint32) {
	t.shelf.poll(epoch)
	for {
		if t.waiting == nil {
			select {
			case t.waiting = <-t.built:
			default:
				return
			}
		}
		if !t.settle(t.waiting) {
			return
		}
		t.unplaced.Release(t.waiting.weight())
		t.waiting = nil
	}
}

// settle finds an end for a build; false while it has to wait.
func (t *tables) settle(b *built) bool {
	if b.err == nil {
		switch t.shelf.place(b.object, b.table, b.starts) {
		case waiting:
			return false
		case refused:
			b.err = errNoRoom
		case misfit:
			b.err = unwind.ErrTooLarge
		case unwanted:
			b.err = errUnwanted
		}
	}
	result, again, odd := outcome(b.err)
	t.stats.builds.WithLabelValues(result).Inc()
	t.settled++
	e := t.shelf.objects[b.object]
	if e != nil {
		e.asked = false
	}
	switch {
	case e != nil && errors.Is(b.err, os.ErrDeadlineExceeded):
		// It is still being opened.
	case e != nil && errors.Is(b.err, errNotOpened) && e.unopened+1 < maxTries:
		e.unopened++ // the next process that runs it may be alive
	case b.err != nil:
		t.shelf.giveUp(b.object, again)
		level := slog.LevelDebug
		if odd {
			level = slog.LevelWarn
		}
		t.log.Log(context.Background(), level, "object has no unwind table", "path", b.object.Path, "error", b.err)
	case b.table.Stats.Damaged > 0:
		t.stats.damaged.Add(float64(b.table.Stats.Damaged))
		t.log.Warn("unwind information is damaged, code that it describes has none", "path", b.object.Path, "entries", b.table.Stats.Damaged)
	}
	return true
}

// outcome is the name of a build's result, whether to try again, and whether to
// tell people: once for an object, as there is no second try.
func outcome(err error) (result string, again, odd bool) {
	switch {
	case err == nil:
		return "placed", false, false
	case errors.Is(err, errUnwanted):
		return "unwanted", false, false
	case errors.Is(err, errNotOpened):
		return "not_opened", true, false
	case errors.Is(err, errNoRoom):
		return "no_room", true, false
	case errors.Is(err, errNoInformation):
		return "no_information", false, false
	case errors.Is(err, objfile.ErrUnsupported), errors.Is(err, unwind.ErrUnsupported):
		return "foreign", false, false
	case errors.Is(err, unwind.ErrTooLarge):
		return "too_large", false, true
	}
	return "unreadable", false, true
}

// images gives the files that objects were mapped from.
func images(files *Files, proc procfs.FS) func(*sample.Object) (*image, error) {
	return func(o *sample.Object) (*image, error) {
		if o.Kind == sample.VDSO {
			b, err := VDSO(proc)
			r := bytes.NewReader(b)
			return &image{r, io.NopCloser(r), r.Size()}, err
		}
		file, err := files.Open(o)
		if err != nil {
			return nil, err
		}
		info, err := file.Stat()
		if err != nil {
			file.Close()
			return nil, err
		}
		return &image{file, file, info.Size()}, nil
	}
}

// tableStats are the metrics of tables in memory and of lists of mappings.
type tableStats struct {
	builds                         *prometheus.CounterVec
	buildSeconds                   prometheus.Histogram
	queueFull, evictions, damaged  prometheus.Counter
	segmentsExhausted              prometheus.Counter
	listsInstalled, listsEvicted   prometheus.Counter
	listsRefused, listErrors       prometheus.Counter
	tables, bytes, segments, lists prometheus.Gauge
}

func newTableStats(reg prometheus.Registerer) *tableStats {
	counter, gauge := registering(reg, "fleetprof_unwind_")
	s := &tableStats{
		queueFull:         counter("queue_full_total", "Tables asked for while too many others were to be built; asked for again with the next sample."),
		damaged:           counter("damaged_entries_total", "Functions, or whole sections, of mapped files whose unwind information contradicts itself or the file."),
		evictions:         counter("evictions_total", "Tables that gave way to others."),
		segmentsExhausted: counter("segments_exhausted_total", "Code segments there was no number for; their frames are found by frame pointers."),
		listsInstalled:    counter("lists_installed_total", "Lists of mappings handed to the kernel side."),
		listsEvicted:      counter("lists_evicted_total", "Lists of mappings that gave way to those of other processes."),
		listsRefused:      counter("lists_refused_total", "Lists of mappings there was no memory for."),
		listErrors:        counter("list_errors_total", "Changes to the kernel side's table of processes that ended in an error."),
		tables:            gauge("tables", "Tables in memory."),
		bytes:             gauge("table_bytes", "Memory that tables take."),
		segments:          gauge("segments", "Code segments that have a number."),
		lists:             gauge("lists", "Processes the kernel side knows."),
		builds: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fleetprof_unwind_builds_total",
			Help: "Tables built for mapped files, by result.",
		}, []string{"result"}),
		buildSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "fleetprof_unwind_build_seconds",
			Help:    "Time to build one table.",
			Buckets: prometheus.ExponentialBuckets(0.001, 10, 5),
		}),
	}
	reg.MustRegister(s.builds, s.buildSeconds)
	return s
}
