// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/fleetprof/fleetprof/sample"
)

// newTestLibraries makes libraries that count the probes attached.
func newTestLibraries(t *testing.T) (*libraries, *probeCount) {
	t.Helper()
	programs, _, _ := newTestPrograms(t)
	attached := new(probeCount)
	probe := func(*os.File, map[string]uint64) (io.Closer, error) {
		attached.Add(1)
		return closeFunc(func() { attached.Add(-1) }), nil
	}
	l := newLibraries(programs.open, probe, slog.New(slog.NewTextHandler(t.Output(), nil)), prometheus.NewRegistry())
	l.start(t.Context())
	t.Cleanup(l.close)
	return l, attached
}

// mapping are the regions of a process with these files.
func mapping(objects ...*sample.Object) (all regions) {
	for i, o := range objects {
		start := uint64(i+1) << 20
		all = append(all, region{start: start, limit: start + 4096, object: o})
	}
	return all
}

// looks looks at what a process has mapped, and takes so many answers.
func (l *libraries) looks(t *testing.T, pid uint32, mapped regions, answers int) {
	t.Helper()
	l.moved(pid, addressSpace{1, 1})
	wanted := 0
	l.look(l.byPID[pid], mapped, func(*region) { wanted++ })
	if wanted != answers {
		t.Fatalf("%d files were asked for, want %d", wanted, answers)
	}
	for range answers {
		l.take(<-l.read)
	}
}

// want checks how many files have probes, now or soon.
func (l *libraries) want(t *testing.T, attached *probeCount, n int) {
	t.Helper()
	if got := testutil.ToFloat64(l.stats.probed); got != float64(n) {
		t.Fatalf("%v files are probed, want %d", got, n)
	}
	await(t, "other number of probes", func() bool { return attached.Load() == int32(n) })
}

// A file is probed once for all processes that have it mapped, until the last has ended.
func TestLibrariesAreProbedWhileUsed(t *testing.T) {
	l, attached := newTestLibraries(t)
	tls, other := &sample.Object{Path: buildTLS(t)}, &sample.Object{Path: "/bin/sh"}
	l.looks(t, 1, mapping(other), 1)
	l.want(t, attached, 0)
	l.looks(t, 1, mapping(other, tls), 1) // loaded later
	l.want(t, attached, 1)
	l.looks(t, 2, mapping(tls, tls), 0)
	l.looks(t, 2, mapping(tls, tls), 0)
	l.ended(1)
	l.ended(1)
	l.want(t, attached, 1)
	l.ended(2)
	l.want(t, attached, 0)
	l.looks(t, 3, mapping(tls, other), 1)
	l.want(t, attached, 1)
	l.close()
	l.want(t, attached, 0)
}

// The process may end while its file is being probed.
func TestLibrariesOfTheDead(t *testing.T) {
	l, attached := newTestLibraries(t)
	tls := &sample.Object{Path: buildTLS(t)}
	l.moved(1, addressSpace{1, 1})
	l.look(l.byPID[1], mapping(tls), func(*region) {})
	l.ended(1)
	l.take(<-l.read)
	l.want(t, attached, 0)
	l.looks(t, 2, mapping(tls), 1)
	l.want(t, attached, 1)
}

// A file that cannot be opened is tried again, but not for ever.
func TestLibrariesNotOpened(t *testing.T) {
	l, _ := newTestLibraries(t)
	gone := mapping(&sample.Object{Path: filepath.Join(t.TempDir(), "gone")})
	for range maxTries + 1 {
		l.looks(t, 1, gone, 1)
	}
	l.looks(t, 1, gone, 0)
	l.looks(t, 2, gone, 0)
	if n := testutil.ToFloat64(l.stats.errors); n != 1 {
		t.Errorf("%v errors, want 1", n)
	}
}

// No number of processes, and of files they map, takes more than the bounds.
func TestLibrariesAreBounded(t *testing.T) {
	l, _ := newTestLibraries(t)
	for pid := range uint32(maxEncrypted + 10) {
		l.moved(pid, addressSpace{1, 1})
	}
	if dropped := testutil.ToFloat64(l.stats.dropped); len(l.byPID) != maxEncrypted || dropped != 10 {
		t.Errorf("%d processes, %v dropped", len(l.byPID), dropped)
	}
	for i := range maxLibraries {
		l.library(&sample.Object{Inode: uint64(i)}).users = i % 2
	}
	if l.library(new(sample.Object)) == nil || len(l.byObject) != maxLibraries/2+1 {
		t.Errorf("%d files, want half of them and one", len(l.byObject))
	}
	for i := range maxLibraries {
		if lib := l.library(&sample.Object{Inode: uint64(i)}); lib != nil {
			lib.users++
		}
	}
	if l.library(new(sample.Object)) != nil {
		t.Errorf("%d files, and more", len(l.byObject))
	}
}
