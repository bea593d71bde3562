// SPDX-License-Identifier: Apache-2.0

// Package symbolize turns locations, an offset in an object, into names. It
// knows objects only: which process ran them, and how their files are reached,
// is the business of whoever implements Files.
//
// Every location gets a frame. What cannot be named is shown as follows:
//
//	libfoo.so+0x1a2b  code of a file: the address as linked, which objdump -d
//	                  and addr2line understand; a file offset if the file's
//	                  headers could not be read
//	[anon]            code without a file, such as JIT output, of which its
//	                  process tells nothing: its address differs from process
//	                  to process (ASLR), so all of it is one frame
//	[unknown]         no mapping was known for the address
//	[kernel]          kernel code, the kernel hiding its symbols or not knowing
//	                  this one: its address is a secret of the host (KASLR)
//
// Names, counts and sizes in objects come from programs that may be hostile:
// see package objfile for how files are read.
package symbolize

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/fleetprof/fleetprof/sample"
	"github.com/fleetprof/fleetprof/symbolize/dwarfsym"
	"github.com/fleetprof/fleetprof/symbolize/index"
	"github.com/fleetprof/fleetprof/symbolize/kernel"
	"github.com/fleetprof/fleetprof/symbolize/lru"
	"github.com/prometheus/client_golang/prometheus"
)

// Files opens the bytes of an object.
type Files interface {
	// Open returns the object's own file, never another of the same path,
	// opened for reading; for Anonymous ones, that in which the process tells of the code
	// it generates: an error that wraps os.ErrNotExist says that there is none. The caller closes it.
	Open(o *sample.Object) (*os.File, error)
	// OpenBeside returns a regular file at an absolute path that may say more of
	// the object: the host's, or else that of a process with the object. An error
	// that wraps os.ErrNotExist says that there is none. The caller closes it.
	OpenBeside(o *sample.Object, path string) (*os.File, error)
}

// DebugFiles has debug files that are not on this host, or not yet. It keeps nobody waiting.
type DebugFiles interface {
	// Available reports whether the debug file of a build ID, in lower-case hex, can be opened. If
	// not, the question is a request to fetch it.
	Available(buildID string) bool
	// Open opens it. The caller closes the file.
	Open(buildID string) (*os.File, error)
}

const (
	defaultTableBytes = 32 << 20
	defaultResults    = 65536
	// debugShare is the share of the time that passes which may be spent on reading debug
	// information, and debugBurst how much of it can be saved up. What there is no time for
	// has names without inlined calls and lines.
	debugShare = 0.02
	debugBurst = 300 * time.Millisecond
	// Parts of TableBytes: for debug information that was read, for code that processes
	// generate, and for names that were demangled. The rest is for tables of files.
	unitShare      = 4
	generatedShare = 8
	nameShare      = 16
	// elsewhereShare is the part, beside the tables, for objects that are named elsewhere.
	elsewhereShare = 16
	// Of 16 parts that which is read of indexes gets, if there are any; debug information and tables of files have less then.
	pageParts = 3

	// resultBytes is what a result may take on average, resultOverhead what it
	// takes besides its frames' strings, in bytes. Names out of hostile files
	// may be a thousand times as long as usual ones.
	resultBytes    = 512
	resultOverhead = 256
	frameOverhead  = 56
)

// Options are what a Symbolizer works with.
type Options struct {
	Files Files
	// DebugFiles is asked for what Files does not have; it may be nil. Code that was named without
	// a debug file is named anew when that is available.
	DebugFiles DebugFiles
	// Elsewhere is set if a store names code of files that have a build ID: their code then has address
	// and segment only, and this is told of each such object, and of its build ID in lower-case hex,
	// when code of it is met first, and again every few hours. It must not keep its caller waiting. Frames of
	// everything else are named all the same.
	Elsewhere func(o *sample.Object, buildID string)
	// Kernel may be nil: kernel frames then have no names.
	Kernel *kernel.Symbols
	// VDSO is the ELF image the kernel maps into every process, see vdso(7).
	// Without it its frames have no names.
	VDSO []byte
	// Indexes keeps on disk what was found out of objects with debug information, so that it need not be
	// found out again; it may be nil. Run makes them.
	Indexes *index.Dir
	// TableBytes bounds the memory for symbol tables, debug information and code that
	// processes generate, 32 MiB if 0. One object may take up to a quarter of it; one with
	// more symbols gets addresses.
	TableBytes int64
	// Results bounds the number of results kept, 65,536 if 0, and their memory
	// to 512 bytes for each of these.
	Results int
	// Demangle is DemangleSimplified if empty.
	Demangle Demangle
	// Unhurried has debug information read whenever it is needed, however long that takes.
	Unhurried bool
	// MetricsPrefix is what the names of metrics begin with, fleetprof_symbolize_ if empty.
	MetricsPrefix string
	Logger        *slog.Logger
	Registerer    prometheus.Registerer
}

// Symbolizer names locations. It is safe for concurrent use.
type Symbolizer struct {
	kernel    *kernel.Symbols
	vdso      *table // nil if there is none
	cache     *cache
	elsewhere *elsewhere // nil if all is named here
	generated *generated
	metrics   *metrics

	mu      sync.Mutex
	results *lru.Cache[sample.Location, result]
}

// result is what a location was found to be.
type result struct {
	sample.Symbolized
	awaits bool // see table
}

// New prepares a symbolizer; files are opened when a location needs them.
func New(o Options) (*Symbolizer, error) {
	if o.TableBytes == 0 {
		o.TableBytes = defaultTableBytes
	}
	if o.Results == 0 {
		o.Results = defaultResults
	}
	if o.Demangle == "" {
		o.Demangle = DemangleSimplified
	}
	if o.MetricsPrefix == "" {
		o.MetricsPrefix = defaultPrefix
	}
	share, burst := debugShare, debugBurst
	if o.Unhurried {
		share, burst = 1, math.MaxInt64/2 // what passes is added to it
	}
	m := newMetrics(o.MetricsPrefix, o.Logger)
	units, forGenerated, names, pages := o.TableBytes/unitShare, o.TableBytes/generatedShare, o.TableBytes/nameShare, int64(0)
	if o.Indexes != nil {
		pages = o.TableBytes * pageParts / 16
		units /= 2
	}
	tables := o.TableBytes - units - forGenerated - names - pages
	l := loading{
		limit: tables / 2, names: newReadableNames(o.Demangle, names),
		units: dwarfsym.NewUnits(units, share, burst),
	}
	s := &Symbolizer{
		kernel:    o.Kernel,
		cache:     newCache(o.Files, o.DebugFiles, l, tables, m),
		elsewhere: newElsewhere(o.Files, o.Elsewhere, tables/elsewhereShare),
		generated: newGenerated(o.Files, forGenerated, m),
		metrics:   m,
		results:   lru.New[sample.Location, result](int64(o.Results)*resultBytes, o.Results, nil),
	}
	if len(o.VDSO) > 0 {
		t, problems, err := l.openTable(bytes.NewReader(o.VDSO), int64(len(o.VDSO)))
		if err != nil {
			return nil, fmt.Errorf("read vDSO image: %w", err)
		}
		m.report("[vdso]", problems)
		s.vdso = t
	}
	if err := m.register(o.Registerer, s.usage); err != nil {
		return nil, err
	}
	if o.Indexes != nil {
		s.cache.indexes = newIndexes(o.Indexes, pages, l, m)
		if err := m.registerIndexes(o.Registerer, o.Indexes); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Run makes indexes until ctx ends, if there is a directory for them. One that is not complete by then is begun anew
// another time.
func (s *Symbolizer) Run(ctx context.Context) {
	if s.cache.indexes != nil {
		s.cache.indexes.run(ctx, s.cache)
	}
}

// Close closes the files that are open. Afterwards code of files is named by
// file offsets only.
func (s *Symbolizer) Close() error {
	s.cache.close()
	s.generated.close()
	return nil
}

// usage is the memory and the number of all tables.
func (s *Symbolizer) usage() (bytes int64, tables int) {
	bytes, tables = s.cache.usage()
	more, others := s.generated.usage()
	return bytes + more, tables + others
}

// Symbolize names a location. The frames are shared: callers must not change
// them. A marker has neither address nor segment; code that is named elsewhere has no frames.
func (s *Symbolizer) Symbolize(loc sample.Location) sample.Symbolized {
	switch loc.Object.Kind {
	case sample.Marker:
		return sample.Symbolized{Frames: named(loc.Object.Path)}
	case sample.Kernel:
		return s.kernelCode(loc.Offset)
	case sample.Anonymous:
		return s.generatedCode(loc)
	case sample.File, sample.VDSO:
		if placed, ok := s.elsewhere.place(loc); ok {
			s.metrics.results.WithLabelValues("elsewhere").Inc()
			return placed
		}
		return s.fileCode(loc)
	}
	return s.unplaced("[unknown]")
}

// unplaced is the result for code of which not even the place can be told.
func (s *Symbolizer) unplaced(name string) sample.Symbolized {
	s.metrics.unnamed.Inc()
	return sample.Symbolized{Frames: named(name), Segment: sample.Segment{File: name}}
}

// kernelCode names a kernel address. Its results are not cached: a lookup only
// searches memory, and a module may be replaced by another at its address.
func (s *Symbolizer) kernelCode(addr uint64) sample.Symbolized {
	if s.kernel == nil {
		return s.unplaced("[kernel]")
	}
	name, module, base, ok := s.kernel.Lookup(addr)
	if !ok {
		return s.unplaced("[kernel]")
	}
	s.metrics.named.Inc()
	seg := sample.Segment{File: "[kernel.kallsyms]", BuildID: s.kernel.BuildID()}
	if module != "" {
		seg = sample.Segment{File: "[" + module + "]"}
	}
	return sample.Symbolized{Frames: named(name), Address: addr - base, Segment: seg}
}

// fileCode names code of a file or of the vDSO.
func (s *Symbolizer) fileCode(loc sample.Location) sample.Symbolized {
	s.mu.Lock()
	r, ok := s.results.Get(loc)
	s.mu.Unlock()
	if ok && !(r.awaits && s.cache.debugFiles.Available(r.Segment.BuildID)) {
		s.metrics.cacheHits.Inc()
		return r.Symbolized
	}
	r, err := s.lookup(loc)
	switch {
	case err == nil:
		s.mu.Lock()
		s.results.Put(loc, r, resultCost(r.Symbolized))
		s.mu.Unlock()
	case !errors.Is(err, errUnreadable) && !errors.Is(err, dwarfsym.ErrLater):
		s.metrics.log.Debug("naming code by its offset", "object_path", loc.Object.Path, "error", err)
	}
	return r.Symbolized
}

// Linked names code of an object of kind File by its address as linked, as Symbolize does, but that
// there are no frames of what has no name. The error says that the object cannot be read. Of one
// symbolizer either Linked or Symbolize is used for files.
func (s *Symbolizer) Linked(o *sample.Object, addr uint64) (frames []sample.Frame, err error) {
	key := sample.Location{Object: o, Offset: addr}
	s.mu.Lock()
	r, known := s.results.Get(key)
	s.mu.Unlock()
	if known {
		s.metrics.cacheHits.Inc()
		return r.Frames, nil
	}
	t, err := s.cache.get(o)
	if err != nil {
		return nil, err
	}
	defer s.cache.release(t)
	r.Frames, err = s.framesOf(t.table, addr)
	if err == nil {
		s.mu.Lock()
		s.results.Put(key, r, resultCost(r.Symbolized))
		s.mu.Unlock()
	}
	return r.Frames, nil
}

// Forget lets go of what is known of an object that Linked was asked for, its file included.
func (s *Symbolizer) Forget(o *sample.Object) {
	s.cache.forget(o)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.results.DeleteFunc(func(l sample.Location) bool { return l.Object == o })
}

// resultCost is the memory a result takes, in bytes.
func resultCost(r sample.Symbolized) int64 {
	n := resultOverhead
	for _, f := range r.Frames {
		n += frameOverhead + len(f.Function) + len(f.SystemName) + len(f.File)
	}
	return int64(n)
}

// lookup names a location without the cache of results. The result is usable
// in any case; an error says that it may be better another time.
func (s *Symbolizer) lookup(loc sample.Location) (result, error) {
	t := s.vdso
	if loc.Object.Kind == sample.File {
		opened, err := s.cache.get(loc.Object)
		if err != nil {
			return result{Symbolized: s.byOffset(loc)}, err
		}
		defer s.cache.release(opened)
		t = opened.table
	}
	if t == nil {
		return result{Symbolized: s.byOffset(loc)}, nil
	}
	addr, seg, ok := segmentOf(t.file, t.buildID, loc)
	if !ok {
		return result{Symbolized: s.byOffset(loc)}, nil
	}
	frames, err := s.framesOf(t, addr)
	if len(frames) == 0 {
		frames = named(OffsetName(loc.Object.Path, addr))
	}
	return result{sample.Symbolized{Frames: frames, Address: addr, Segment: seg}, t.awaits}, err
}

// framesOf names an address by a table, and counts what becomes of it. There are no frames of what has
// no name; an error says that there may be more another time.
func (s *Symbolizer) framesOf(t *table, addr uint64) ([]sample.Frame, error) {
	frames, err := t.frames(addr)
	switch {
	case errors.Is(err, errDemangle):
		s.metrics.mangled.Inc()
		err = nil
	case errors.Is(err, dwarfsym.ErrLater):
		s.metrics.later.Inc()
	case errors.Is(err, errDebug):
		s.metrics.failures.WithLabelValues(reasonDebugInfo).Inc()
		err = nil
	case err != nil:
		s.metrics.failures.WithLabelValues(reasonRead).Inc()
	}
	outcome := s.metrics.named
	if len(frames) == 0 {
		outcome = s.metrics.unnamed
	}
	outcome.Inc()
	return frames, err
}

// byOffset is the result where an object's headers are not known: addresses
// are file offsets, in a segment that is the whole file. Its limit is not the
// end of all addresses because pprof takes that for "already linked"; this way
// it finds the base itself, given the file, if that is position-independent.
func (s *Symbolizer) byOffset(loc sample.Location) sample.Symbolized {
	s.metrics.unnamed.Inc()
	return sample.Symbolized{
		Frames:  named(OffsetName(loc.Object.Path, loc.Offset)),
		Address: loc.Offset,
		Segment: sample.Segment{Limit: math.MaxInt64 &^ (pageSize - 1), File: loc.Object.Path, BuildID: loc.Object.BuildID},
	}
}

// OffsetName is the name of code without one, of the file at a path.
func OffsetName(file string, offset uint64) string {
	base := path.Base(strings.TrimSuffix(file, " (deleted)"))
	return fmt.Sprintf("%s+0x%x", shorten(base), offset)
}

func named(function string) []sample.Frame { return []sample.Frame{{Function: function}} }
