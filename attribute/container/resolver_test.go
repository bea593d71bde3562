// SPDX-License-Identifier: Apache-2.0

package container

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fleetprof/fleetprof/internal/procfs"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"golang.org/x/sys/unix"
)

var proc = procfs.New("/proc")

// testResolver is a Resolver with its metrics and log in reach.
type testResolver struct {
	*Resolver
	registry *prometheus.Registry
	log      *bytes.Buffer
}

func newResolver(h Hierarchy, f procfs.FS) testResolver {
	registry, log := prometheus.NewRegistry(), new(bytes.Buffer)
	return testResolver{
		Resolver: New(Options{
			FS: f, Hierarchy: h, Registerer: registry, CacheSize: 8,
			Logger: slog.New(slog.NewTextHandler(log, nil)),
		}),
		registry: registry, log: log,
	}
}

// expect compares the counters; those that are not given must be 0.
func (r testResolver) expect(t *testing.T, want map[string]float64) {
	t.Helper()
	got := map[string]float64{
		"container":  testutil.ToFloat64(r.metrics.container),
		"host":       testutil.ToFloat64(r.metrics.host),
		"unresolved": testutil.ToFloat64(r.metrics.unresolved),
		"byHandle":   testutil.ToFloat64(r.metrics.byHandle),
		"byProcess":  testutil.ToFloat64(r.metrics.byProcess),
		"failure":    testutil.ToFloat64(r.metrics.failure),
	}
	for name, value := range got {
		if value != want[name] {
			t.Errorf("counter %s is %v, want %v", name, value, want[name])
		}
	}
}

// In each hierarchy of this host, a container is told while its process lives,
// after it has died, and from memory when even the cgroup is gone.
func TestPlace(t *testing.T) {
	for _, h := range hierarchies(t) {
		t.Run(h.String(), func(t *testing.T) {
			c := newCgroup(t, h, "docker/"+id1+"/worker")
			pid, stop := c.start(t)
			r := newResolver(h, proc)
			if got := r.Place(c.id, pid).Container; got != id1 {
				t.Errorf("living process: %q, want %q", got, id1)
			}
			stop()
			late := newResolver(h, proc)
			if got := late.Place(c.id, pid).Container; got != id1 {
				t.Errorf("process that died: %q, want %q", got, id1)
			}
			late.expect(t, map[string]float64{"container": 1, "byHandle": 1})

			removeCgroup(t, c.dir)
			if got := r.Place(c.id, pid).Container; got != id1 {
				t.Errorf("cgroup that was removed, known: %q, want %q", got, id1)
			}
			r.expect(t, map[string]float64{"container": 2, "byHandle": 1})
			tooLate := newResolver(h, proc)
			if got := tooLate.Place(c.id, pid).Container; got != "" {
				t.Errorf("cgroup that was removed, never seen: %q, want none", got)
			}
			tooLate.expect(t, map[string]float64{"unresolved": 1, "failure": 1})
			if log := tooLate.log.String(); log != "" {
				t.Errorf("a removed cgroup was warned of: %s", log)
			}
		})
	}
}

func TestPlaceOfHost(t *testing.T) {
	for _, h := range hierarchies(t) {
		t.Run(h.String(), func(t *testing.T) {
			c := newCgroup(t, h, "system.slice/nginx.service")
			root := makeCgroup(t, h.MountPoint)
			r := newResolver(h, proc)
			for _, id := range []uint64{c.id, c.id, root.id} {
				if got := r.Place(id, 1).Container; got != "" {
					t.Errorf("cgroup %d: %q, want none", id, got)
				}
			}
			r.expect(t, map[string]float64{"host": 3, "byHandle": 2})
		})
	}
}

// Without the right to open handles a living process leads to its cgroup, but
// only one that is in the very cgroup asked for.
func TestPlaceWithoutHandles(t *testing.T) {
	for _, h := range hierarchies(t) {
		t.Run(h.String(), func(t *testing.T) {
			c := newCgroup(t, h, "docker/"+id1)
			other := newCgroup(t, h, "docker/"+id2)
			pid, stop := c.start(t)
			otherPID, _ := other.start(t)
			r := newResolver(h, proc)
			clock := time.Now()
			r.now = func() time.Time { return clock }
			asUnprivileged(t, func() {
				if got := r.Place(c.id, otherPID).Container; got != "" {
					t.Errorf("process of another cgroup: %q, want none", got)
				}
				if got := r.Place(c.id, pid).Container; got != "" {
					t.Errorf("tried again at once: %q, want none", got)
				}
				clock = clock.Add(retryAfter)
				if got := r.Place(c.id, pid).Container; got != id1 {
					t.Errorf("process of the cgroup: %q, want %q", got, id1)
				}
				stop()
				if got := r.Place(c.id, pid).Container; got != id1 {
					t.Errorf("process that died: %q, want %q", got, id1)
				}
				if got := newResolver(h, proc).Place(c.id, pid).Container; got != "" {
					t.Errorf("process that died, never seen: %q, want none", got)
				}
			})
			r.expect(t, map[string]float64{"container": 2, "unresolved": 2, "byProcess": 1, "failure": 1})
			if n := strings.Count(r.log.String(), "level=WARN"); n != 1 {
				t.Errorf("%d warnings, want 1:\n%s", n, r.log)
			}
		})
	}
}

func TestPathOfProcess(t *testing.T) {
	v2 := Hierarchy{V2: true, MountPoint: t.TempDir()}
	root := t.TempDir()
	for pid, text := range map[string]string{
		"7": "1:memory:/a\n", "8": "0::/../a\n", "9": "0::/a\n", "10": "0::/missing\n", "11": "x\n",
	} {
		if err := os.MkdirAll(filepath.Join(root, pid), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, pid, "cgroup"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	id := makeCgroup(t, filepath.Join(v2.MountPoint, "a")).id
	tests := []struct {
		name string
		pid  uint32
		id   uint64
		want string
		err  error
	}{
		{"as asked", 9, id, "/a", nil},
		{"another cgroup", 9, id + 1, "", errMoved},
		{"not in the hierarchy", 7, id, "", errMoved},
		{"outside of the namespace", 8, id, "", errHidden},
		{"removed", 10, id, "", os.ErrNotExist},
		{"ended", 12, id, "", os.ErrNotExist},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := pathOfProcess(procfs.New(root), v2, tt.id, tt.pid)
			if got != tt.want || !errors.Is(err, tt.err) {
				t.Errorf("%q, %v, want %q, %v", got, err, tt.want, tt.err)
			}
		})
	}
	if got, err := pathOfProcess(procfs.New(root), v2, id, 11); err == nil {
		t.Errorf("malformed file: %q, want an error", got)
	}
}

func TestCache(t *testing.T) {
	c := newCache(3)
	for id := range uint64(5) {
		c.put(entry{id: id, place: Place{Container: "first"}})
		c.get(0) // kept by being used
	}
	c.put(entry{id: 4, place: Place{Container: "second"}})
	for id, want := range map[uint64]string{0: "first", 3: "first", 4: "second"} {
		if e, ok := c.get(id); !ok || e.place.Container != want || e.id != id {
			t.Errorf("get(%d) = %+v, %v, want %q", id, e, ok, want)
		}
	}
	for _, id := range []uint64{1, 2} {
		if e, ok := c.get(id); ok {
			t.Errorf("get(%d) = %+v, want none", id, e)
		}
	}
	if len(c.byID) != 3 || c.recency.Len() != 3 {
		t.Errorf("%d entries, %d in order, want 3", len(c.byID), c.recency.Len())
	}
}

func TestMetricNames(t *testing.T) {
	r := newResolver(Hierarchy{V2: true, MountPoint: t.TempDir()}, procfs.New(t.TempDir()))
	if got := r.Place(1, 1).Container; got != "" {
		t.Errorf("no cgroups at all: %q, want none", got)
	}
	problems, err := testutil.GatherAndLint(r.registry)
	if err != nil || len(problems) > 0 {
		t.Errorf("metrics: %v, %v", problems, err)
	}
	n, err := testutil.GatherAndCount(r.registry, "fleetprof_container_samples_total", "fleetprof_container_lookups_total")
	if err != nil || n != 6 {
		t.Errorf("%d time series, %v, want 6", n, err)
	}
}

func TestPlaceConcurrently(t *testing.T) {
	h := hierarchies(t)[0]
	c := newCgroup(t, h, "docker/"+id1)
	r := newResolver(h, proc)
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for i := range uint64(100) {
				r.Place(1+i%16, 1) // more than the cache holds
				if got := r.Place(c.id, 1).Container; got != id1 {
					t.Errorf("%q, want %q", got, id1)
				}
			}
		})
	}
	group.Wait()
}

func BenchmarkPlace(b *testing.B) {
	h, err := Detect(proc)
	if err != nil {
		b.Skip(err)
	}
	var st unix.Stat_t
	if err := unix.Stat(h.MountPoint, &st); err != nil {
		b.Fatal(err)
	}
	b.Run("cached", func(b *testing.B) {
		r := newResolver(h, proc)
		b.ReportAllocs()
		for b.Loop() {
			r.Place(st.Ino, 1)
		}
	})
	b.Run("by handle", func(b *testing.B) {
		if _, err := pathOf(proc, h, st.Ino); err != nil {
			b.Skip(err)
		}
		b.ReportAllocs()
		for b.Loop() {
			if _, err := pathOf(proc, h, st.Ino); err != nil {
				b.Fatal(err)
			}
		}
	})
}
