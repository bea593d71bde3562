// SPDX-License-Identifier: Apache-2.0

// Package kernel names addresses of the running kernel, its modules and the
// BPF programs in it, from the text of /proc/kallsyms.
//
// Addresses of the kernel differ from boot to boot (KASLR) and are a secret of
// their host. A lookup therefore also gives the address that others count
// from, so that the caller can hand on the difference only.
package kernel

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fleetprof/fleetprof/internal/objfile"
	"github.com/prometheus/client_golang/prometheus"
)

// ErrRestricted reports that the kernel shows symbols but not their addresses.
var ErrRestricted = errors.New("kernel symbol addresses are hidden: " +
	"run with CAP_SYSLOG and set the sysctl kernel.kptr_restrict to 0 or 1")

// reloadInterval is the least time between two reads of kallsyms.
const reloadInterval = time.Minute

// maxNotes bounds what is read of the kernel's notes, in bytes.
const maxNotes = 64 << 10

// Options says where the kernel describes itself.
type Options struct {
	// Kallsyms is the path of the symbols, usually /proc/kallsyms.
	Kallsyms string
	// Notes is the path of the kernel's ELF notes, usually /sys/kernel/notes;
	// empty for a kernel without build ID.
	Notes      string
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Symbols names kernel addresses. It is safe for concurrent use.
type Symbols struct {
	path    string
	buildID string
	log     *slog.Logger
	reloads *prometheus.CounterVec
	now     func() time.Time

	table atomic.Pointer[table]
	// loading lets one goroutine at a time read kallsyms.
	loading sync.Mutex
	loaded  time.Time // guarded by loading
}

// Open reads the symbols. The error is ErrRestricted where the kernel hides
// addresses.
func Open(o Options) (*Symbols, error) {
	s := &Symbols{path: o.Kallsyms, log: o.Logger, now: time.Now}
	t, err := readTable(o.Kallsyms)
	if err != nil {
		return nil, err
	}
	s.table.Store(t)
	s.loaded = s.now()
	if s.buildID, err = readBuildID(o.Notes); err != nil {
		return nil, err
	}
	s.reloads = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "fleetprof_symbolize_kernel_reloads_total",
		Help: "Reads of /proc/kallsyms because of an address it did not cover before.",
	}, []string{"result"})
	symbols := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "fleetprof_symbolize_kernel_symbols",
		Help: "Symbols known of the kernel, its modules and BPF programs.",
	}, func() float64 { return float64(len(s.table.Load().symbols)) })
	for _, c := range []prometheus.Collector{s.reloads, symbols} {
		if err := o.Registerer.Register(c); err != nil {
			return nil, fmt.Errorf("register kernel symbol metrics: %w", err)
		}
	}
	return s, nil
}

// BuildID is the kernel's GNU build ID in lower-case hex, or empty.
func (s *Symbols) BuildID() string { return s.buildID }

// Lookup names the code at an address. The module is empty for the kernel
// proper; "bpf" stands for BPF programs and their trampolines. The base is what
// addresses of that module are to be counted from: _stext for the kernel
// proper and the lowest known symbol for modules.
//
// An address that no symbol covers makes it read the symbols again, as modules
// and BPF programs come and go, but not more than once a minute.
func (s *Symbols) Lookup(addr uint64) (name, module string, base uint64, ok bool) {
	t := s.table.Load()
	if name, module, base, ok = t.lookup(addr); ok {
		return name, module, base, true
	}
	if t = s.reload(t); t == nil {
		return "", "", 0, false
	}
	return t.lookup(addr)
}

// reload replaces the table unless that happened just now. It returns a table
// other than old, or nil.
func (s *Symbols) reload(old *table) *table {
	if !s.loading.TryLock() {
		return nil // another goroutine is at it; the next lookup will see
	}
	defer s.loading.Unlock()
	if t := s.table.Load(); t != old {
		return t
	}
	now := s.now()
	if now.Sub(s.loaded) < reloadInterval {
		return nil
	}
	s.loaded = now
	t, err := readTable(s.path)
	if err != nil {
		s.reloads.WithLabelValues("error").Inc()
		s.log.Warn("keeping old kernel symbols", "error", err)
		return nil
	}
	s.reloads.WithLabelValues("ok").Inc()
	s.table.Store(t)
	return t
}

func readTable(path string) (*table, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open kernel symbols: %w", err)
	}
	defer f.Close()
	t, err := parse(f)
	if err != nil {
		return nil, fmt.Errorf("read kernel symbols from %s: %w", path, err)
	}
	return t, nil
}

func readBuildID(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read kernel notes: %w", err)
	}
	return objfile.NoteBuildID(b[:min(len(b), maxNotes)], 4), nil
}
