// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

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

// settle looks at a process until all its files have been probed.
func (l *libraries) settle(pid uint32, regions regions) {
	for n := -1; n != len(l.byPID[pid].maps) || l.byPID[pid].regions == 0; {
		n = len(l.byPID[pid].maps)
		l.look(l.byPID[pid], regions, func(*region) {})
		for _, lib := range l.byObject {
			for lib.asked && !lib.settled() {
				l.take(<-l.read)
			}
		}
	}
}

func TestLibraries(t *testing.T) {
	tls, other := &sample.Object{Path: buildTLS(t)}, &sample.Object{Path: "/bin/sh"}
	const first, second = 10, 11
	_ = first
	_ = second
	_, _ = tls, other
	_ = errors.New
	_ = filepath.Join
	_ = slices.Sort[[]int]
	_ = time.Now
	_ = testutil.ToFloat64
}
