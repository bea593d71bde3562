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
//	[anon]            code without a file, such as JIT output: its address
//	                  differs from process to process (ASLR), so all of it is
//	                  one frame
//	[unknown]         no mapping was known for the address
//	[kernel]          kernel code, the kernel hiding its symbols or not knowing
//	                  this one: its address is a secret of the host (KASLR)
//
// Names, counts and sizes in objects come from programs that may be hostile:
// see package objfile for how files are read.
package symbolize

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path"
	"strings"
	"sync"

	"github.com/fleetprof/fleetprof/sample"
	"github.com/fleetprof/fleetprof/symbolize/kernel"
	"github.com/prometheus/client_golang/prometheus"
)

// Files opens the bytes of an object.
type Files interface {
	// Open returns the object's own file, never another of the same path,
	// opened for reading. The caller closes it.
	Open(o *sample.Object) (*os.File, error)
}

const (
	defaultTableBytes = 32 << 20
	defaultResults    = 65536

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
	// Kernel may be nil: kernel frames then have no names.
	Kernel *kernel.Symbols
	// VDSO is the ELF image the kernel maps into every process, see vdso(7).
	// Without it its frames have no names.
	VDSO []byte
	// TableBytes bounds the memory for symbol tables, 32 MiB if 0. One object
	// may take up to half of it; one with more symbols gets addresses.
	TableBytes int64
	// Results bounds the number of results kept, 65,536 if 0, and their memory
	// to 512 bytes for each of these.
	Results    int
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Symbolizer names locations. It is safe for concurrent use.
type Symbolizer struct {
	kernel  *kernel.Symbols
	vdso    *table // nil if there is none
	cache   *cache
	metrics *metrics

	mu      sync.Mutex
	results *lru[sample.Location, sample.Symbolized]
}

// New prepares a symbolizer; files are opened when a location needs them.
func New(o Options) (*Symbolizer, error) {
	if o.TableBytes == 0 {
		o.TableBytes = defaultTableBytes
	}
	if o.Results == 0 {
		o.Results = defaultResults
	}
	m := newMetrics(o.Logger)
	s := &Symbolizer{
		kernel:  o.Kernel,
		cache:   newCache(o.Files, o.TableBytes, m),
		metrics: m,
		results: newLRU[sample.Location, sample.Symbolized](int64(o.Results)*resultBytes, o.Results, nil),
	}
	if len(o.VDSO) > 0 {
		t, problems, err := openTable(bytes.NewReader(o.VDSO), int64(len(o.VDSO)), o.TableBytes)
		if err != nil {
			return nil, fmt.Errorf("read vDSO image: %w", err)
		}
		m.report("[vdso]", problems)
		s.vdso = t
	}
	if err := m.register(o.Registerer, s.cache); err != nil {
		return nil, err
	}
	return s, nil
}

// Close closes the files that are open. Afterwards code of files is named by
// file offsets only.
func (s *Symbolizer) Close() error {
	s.cache.close()
	return nil
}

// Symbolize names a location. The frames are shared: callers must not change
// them. A marker has neither address nor segment.
func (s *Symbolizer) Symbolize(loc sample.Location) sample.Symbolized {
	switch loc.Object.Kind {
	case sample.Marker:
		return sample.Symbolized{Frames: named(loc.Object.Path)}
	case sample.Kernel:
		return s.kernelCode(loc.Offset)
	case sample.Anonymous:
		return s.unplaced("[anon]")
	case sample.File, sample.VDSO:
		return s.fileCode(loc)
	}
	return s.unplaced("[unknown]")
}

// unplaced is the result for code of which not even the place can be told.
func (s *Symbolizer) unplaced(name string) sample.Symbolized {
	s.metrics.results.WithLabelValues("unnamed").Inc()
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
	s.metrics.results.WithLabelValues("named").Inc()
	seg := sample.Segment{File: "[kernel.kallsyms]", BuildID: s.kernel.BuildID()}
	if module != "" {
		seg = sample.Segment{File: "[" + module + "]"}
	}
	return sample.Symbolized{Frames: named(name), Address: addr - base, Segment: seg}
}

// fileCode names code of a file or of the vDSO.
func (s *Symbolizer) fileCode(loc sample.Location) sample.Symbolized {
	s.mu.Lock()
	r, ok := s.results.get(loc)
	s.mu.Unlock()
	if ok {
		s.metrics.cacheHits.Inc()
		return r
	}
	r, err := s.lookup(loc)
	switch {
	case err == nil:
		s.mu.Lock()
		s.results.put(loc, r, resultCost(r))
		s.mu.Unlock()
	case !errors.Is(err, errUnreadable):
		s.metrics.log.Debug("naming code by its offset", "object_path", loc.Object.Path, "error", err)
	}
	return r
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
func (s *Symbolizer) lookup(loc sample.Location) (sample.Symbolized, error) {
	t := s.vdso
	if loc.Object.Kind == sample.File {
		opened, err := s.cache.get(loc.Object)
		if err != nil {
			return s.byOffset(loc), err
		}
		defer s.cache.release(opened)
		t = opened.table
	}
	if t == nil {
		return s.byOffset(loc), nil
	}
	addr, seg, ok := t.segment(loc.Object.Path, loc.Offset)
	if !ok {
		return s.byOffset(loc), nil
	}
	frames, err := t.frames(addr)
	if errors.Is(err, errDemangle) {
		s.metrics.mangled.Inc()
		err = nil
	}
	if err != nil {
		s.metrics.failures.WithLabelValues(reasonRead).Inc()
	}
	result := "named"
	if len(frames) == 0 {
		frames, result = named(offsetName(loc.Object, addr)), "unnamed"
	}
	s.metrics.results.WithLabelValues(result).Inc()
	return sample.Symbolized{Frames: frames, Address: addr, Segment: seg}, err
}

// byOffset is the result where an object's headers are not known: addresses
// are file offsets, in a segment that is the whole file. Its limit is not the
// end of all addresses because pprof takes that for "already linked"; this way
// it finds the base itself, given the file, if that is position-independent.
func (s *Symbolizer) byOffset(loc sample.Location) sample.Symbolized {
	s.metrics.results.WithLabelValues("unnamed").Inc()
	return sample.Symbolized{
		Frames:  named(offsetName(loc.Object, loc.Offset)),
		Address: loc.Offset,
		Segment: sample.Segment{Limit: math.MaxInt64 &^ (pageSize - 1), File: loc.Object.Path, BuildID: loc.Object.BuildID},
	}
}

// offsetName is the name of code without one.
func offsetName(o *sample.Object, offset uint64) string {
	base := path.Base(strings.TrimSuffix(o.Path, " (deleted)"))
	return fmt.Sprintf("%s+0x%x", shorten(base), offset)
}

func named(function string) []sample.Frame { return []sample.Frame{{Function: function}} }
