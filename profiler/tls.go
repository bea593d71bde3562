// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fleetprof/fleetprof/bpf"
	"github.com/fleetprof/fleetprof/internal/objfile"
	"github.com/fleetprof/fleetprof/profiler/tlscode"
	"github.com/fleetprof/fleetprof/sample"
)

// libraries probes the functions of TLS in the files that processes have mapped, shared
// libraries or the programs themselves: of those processes that were seen to move records
// of TLS through sockets, and while there are any. Files are read and probed beside the
// sampling. Not safe for concurrent use.
type libraries struct {
	open  func(*sample.Object) (*image, error)
	probe func(file *os.File, offsets map[string]uint64) (io.Closer, error)
	log   *slog.Logger
	stats *libraryStats

	byObject map[*sample.Object]*library
	byPID    map[uint32]*encrypted

	beside[*readLibrary]
}

// encrypted is a process that moves records of TLS.
type encrypted struct {
	space addressSpace
	// regions is how many it had when they were last looked through.
	regions int
	maps    map[*library]struct{}
}

// library is a mapped file, which may have nothing to do with TLS.
type library struct {
	asked  bool
	tries  int
	probes io.Closer // nil if it has none
	// users is how many of the processes have it mapped.
	users int
}

// readLibrary is a file to be probed, and what came of it.
type readLibrary struct {
	object *sample.Object
	probes io.Closer
	err    error
}

// close takes the probes out. Nothing can be done about an error.
func (r *readLibrary) close() {
	if r.probes != nil {
		r.probes.Close()
	}
}

const (
	// maxEncrypted bounds the processes that are followed.
	maxEncrypted = 4096
	// maxLibraries bounds the files that they have mapped.
	maxLibraries = 4096
)

func newLibraries(open func(*sample.Object) (*image, error), probe func(*os.File, map[string]uint64) (io.Closer, error),
	log *slog.Logger, reg prometheus.Registerer,
) *libraries {
	l := &libraries{
		open: open, probe: probe, log: log, stats: newLibraryStats(reg),
		byObject: make(map[*sample.Object]*library),
		byPID:    make(map[uint32]*encrypted),
	}
	l.init()
	return l
}

// start starts reading; close or the end of ctx ends it.
func (l *libraries) start(ctx context.Context) {
	l.beside.start(ctx, func(ctx context.Context, r *readLibrary) { r.err = l.attach(ctx, r) }, (*readLibrary).close)
}

// close takes out all probes, side by side: the kernel waits for each. It is idempotent.
func (l *libraries) close() {
	l.stop()
	l.poll()
	for _, lib := range l.byObject {
		l.unprobe(lib)
	}
	l.work.Wait()
}

// attach probes a file, if it has functions to be probed.
func (l *libraries) attach(ctx context.Context, r *readLibrary) error {
	file, err := l.open(r.object)
	if err != nil {
		return errors.Join(errNotOpened, err)
	}
	defer file.Close()
	f, err := objfile.Open(until{ctx, file}, file.size)
	if errors.Is(err, objfile.ErrUnsupported) || err == nil && f.Machine != machine() {
		return nil
	}
	if err != nil {
		return err
	}
	offsets, err := tlscode.Find(f, bpf.TLSFunctions())
	if err != nil || len(offsets) == 0 {
		return err
	}
	stored, ok := file.ReaderAt.(*os.File)
	if !ok {
		return errNotOpened
	}
	r.probes, err = l.probe(stored, offsets)
	return err
}

// moved takes that a process moved a record of TLS. What it has mapped is looked at
// later: by then, most that come and go have gone.
func (l *libraries) moved(pid uint32, space addressSpace) {
	if e := l.byPID[pid]; e != nil {
		e.space = space
		return
	}
	if len(l.byPID) >= maxEncrypted {
		l.stats.dropped.Inc()
		return
	}
	l.byPID[pid] = &encrypted{space: space, maps: make(map[*library]struct{})}
}

// look sees to it that what a process has mapped is probed. want is called for a file to
// be opened.
func (l *libraries) look(e *encrypted, regions regions, want func(*region)) {
	if e.regions == len(regions) {
		return
	}
	e.regions = len(regions)
	for i := range regions {
		r := &regions[i]
		if r.object.Kind != sample.File {
			continue
		}
		lib := l.library(r.object)
		if lib == nil {
			l.stats.dropped.Inc()
			continue
		}
		if _, known := e.maps[lib]; !known {
			e.maps[lib] = struct{}{}
			lib.users++
		}
		if !lib.asked {
			want(r)
			if lib.asked = l.ask(&readLibrary{object: r.object}); !lib.asked {
				e.regions = 0 // again
			}
		}
	}
}

// library finds a file, or makes one; nil if there are too many.
func (l *libraries) library(o *sample.Object) *library {
	lib := l.byObject[o]
	if lib != nil {
		return lib
	}
	if len(l.byObject) >= maxLibraries {
		l.forgetUnused()
	}
	if len(l.byObject) >= maxLibraries {
		return nil
	}
	lib = new(library)
	l.byObject[o] = lib
	return lib
}

func (l *libraries) forgetUnused() {
	for o, lib := range l.byObject {
		if lib.users == 0 {
			delete(l.byObject, o)
		}
	}
}

// poll takes what has been probed.
func (l *libraries) poll() { l.beside.poll(l.take) }

func (l *libraries) take(r *readLibrary) {
	lib := l.byObject[r.object]
	if r.probes != nil {
		l.stats.probed.Inc()
	}
	switch {
	case lib == nil:
		l.unprobe(&library{probes: r.probes})
	case r.probes != nil:
		lib.probes = r.probes
		l.log.Debug("functions of TLS are probed", "path", r.object.Path)
		if lib.users == 0 {
			l.unprobe(lib)
		}
	case errors.Is(r.err, errNotOpened) && lib.tries < maxTries:
		lib.tries++
		lib.asked = false
		for _, e := range l.byPID {
			e.regions = 0
		}
	case r.err != nil:
		l.stats.errors.Inc()
		l.log.Debug("file is not searched for functions of TLS", "path", r.object.Path, "error", r.err)
	}
}

// unprobe takes the probes out of a file. The kernel takes its time, so nobody waits but
// close.
func (l *libraries) unprobe(lib *library) {
	if lib.probes == nil {
		return
	}
	probes := lib.probes
	lib.probes, lib.asked = nil, false
	l.stats.probed.Dec()
	l.work.Go(func() {
		probes.Close() // nothing can be done about an error
	})
}

// ended forgets a process. The probes of a file that no other one has mapped are taken out.
func (l *libraries) ended(pid uint32) {
	e := l.byPID[pid]
	if e == nil {
		return
	}
	delete(l.byPID, pid)
	for lib := range e.maps {
		if lib.users--; lib.users == 0 {
			l.unprobe(lib)
		}
	}
}

// lookForTLS sees to it that the libraries of processes that speak TLS are probed. Go
// programs have none, and where nobody knows who executes nothing could be told.
func (p *Profiler) lookForTLS() {
	l := p.activities.libraries
	l.poll()
	for pid, e := range l.byPID {
		proc := p.processes.lookup(&sample.Raw{PID: pid, TID: pid})
		if proc == nil {
			l.ended(pid)
			continue
		}
		switch p.programs.executor(pid) {
		case bpf.ExecutorUnknown:
			p.executes(pid, pid, proc, e.space, false)
		case bpf.ExecutorThread:
			l.look(e, proc.regions, func(r *region) { p.files.hold(r, pid, proc.parent) })
		}
	}
}

// libraryStats are the metrics of libraries.
type libraryStats struct {
	probed          prometheus.Gauge
	errors, dropped prometheus.Counter
}

func newLibraryStats(reg prometheus.Registerer) *libraryStats {
	counter, gauge := registering(reg, "fleetprof_profiler_tls_")
	return &libraryStats{
		probed:  gauge("libraries", "Files whose functions of TLS are probed."),
		errors:  counter("errors_total", "Files that could not be searched for functions of TLS, or not probed."),
		dropped: counter("dropped_total", "Processes, and files they have mapped, that are not searched because there are too many."),
	}
}
