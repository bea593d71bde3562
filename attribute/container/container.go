// SPDX-License-Identifier: Apache-2.0

// Package container tells which container a sample was taken in.
//
// The kernel knows no containers, only cgroups; that a cgroup belongs to a
// container shows in its path alone. A sample brings the number of its cgroup
// (the kernfs id, which is the inode of the cgroup's directory) in the one
// hierarchy that [Detect] chose. The [Resolver] turns the number into a path,
// and [IDFromPath] the path into a container's id. A wrong label is worse than
// none: where either step is not certain there is no id.
//
// What bites: a cgroup can be removed before its last sample is looked at, and
// then nobody can tell its path any more. Such samples are counted.
package container

import (
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/fleetprof/fleetprof/internal/procfs"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"golang.org/x/sys/unix"
)

// retryAfter is how long a cgroup that could not be resolved is left alone.
// Another process in it may have better luck then.
const retryAfter = 5 * time.Second

// Options are what a Resolver needs; all fields must be set.
type Options struct {
	FS         procfs.FS
	Hierarchy  Hierarchy
	Logger     *slog.Logger
	Registerer prometheus.Registerer
	// CacheSize bounds how many cgroups are remembered, at some 300 bytes each.
	CacheSize int
}

// Resolver finds the container of a cgroup. It is safe for concurrent use.
type Resolver struct {
	fs        procfs.FS
	hierarchy Hierarchy
	log       *slog.Logger
	now       func() time.Time
	metrics   metrics

	mu     sync.Mutex
	cache  *cache
	warned bool
}

// entry is what is known about one cgroup. The kernel never gives an id twice
// between two boots: it counts 64 bits up (__kernfs_new_node in fs/kernfs/dir.c).
type entry struct {
	id    uint64
	place Place
	// retry is when to try again, for a cgroup that could not be resolved.
	retry time.Time
}

func (e entry) unresolved() bool { return !e.retry.IsZero() }

type metrics struct {
	container, host, unresolved  prometheus.Counter
	byHandle, byProcess, failure prometheus.Counter
}

func newMetrics(r prometheus.Registerer) metrics {
	samples := promauto.With(r).NewCounterVec(prometheus.CounterOpts{
		Name: "fleetprof_container_samples_total",
		Help: "Samples by whether they are of a container, of the host, or of a cgroup that could not be resolved.",
	}, []string{"result"})
	lookups := promauto.With(r).NewCounterVec(prometheus.CounterOpts{
		Name: "fleetprof_container_lookups_total",
		Help: "Cgroups looked up because they were not in the cache, by the way in which the path was found.",
	}, []string{"source"})
	return metrics{
		container:  samples.WithLabelValues("container"),
		host:       samples.WithLabelValues("host"),
		unresolved: samples.WithLabelValues("unresolved"),
		byHandle:   lookups.WithLabelValues("handle"),
		byProcess:  lookups.WithLabelValues("process"),
		failure:    lookups.WithLabelValues("none"),
	}
}

// New returns a Resolver for cgroups of one hierarchy.
func New(o Options) *Resolver {
	return &Resolver{
		fs:        o.FS,
		hierarchy: o.Hierarchy,
		log:       o.Logger,
		now:       time.Now,
		metrics:   newMetrics(o.Registerer),
		cache:     newCache(o.CacheSize),
	}
}

// Place tells where a process ran whose cgroup has the given kernfs id; it is
// empty if that cannot be told. The process is one that was seen in the cgroup; it
// need not live any more.
func (r *Resolver) Place(cgroupID uint64, pid uint32) Place {
	r.mu.Lock()
	defer r.mu.Unlock()
	e, known := r.cache.get(cgroupID)
	if !known || e.unresolved() && !r.now().Before(e.retry) {
		e = r.resolve(cgroupID, pid)
		r.cache.put(e)
	}
	switch {
	case e.unresolved():
		r.metrics.unresolved.Inc()
	case e.place.Container == "":
		r.metrics.host.Inc()
	default:
		r.metrics.container.Inc()
	}
	return e.place
}

// CgroupOfProcess gives the kernfs id of the cgroup that a process is in now.
func (r *Resolver) CgroupOfProcess(pid uint32) (uint64, error) {
	_, id, err := currentCgroup(r.fs, r.hierarchy, pid)
	return id, err
}

// resolve asks the kernel. The way by the id is tried first as it depends on no
// process.
func (r *Resolver) resolve(id uint64, pid uint32) entry {
	path, err := pathOf(r.fs, r.hierarchy, id)
	if err == nil {
		r.metrics.byHandle.Inc()
		return entry{id: id, place: PlaceFromPath(path)}
	}
	r.warn(err)
	path, processErr := pathOfProcess(r.fs, r.hierarchy, id, pid)
	if processErr == nil {
		r.metrics.byProcess.Inc()
		return entry{id: id, place: PlaceFromPath(path)}
	}
	r.metrics.failure.Inc()
	r.log.Debug("cgroup not resolved", "cgroup_id", id, "pid", pid, "error", errors.Join(err, processErr))
	return entry{id: id, retry: r.now().Add(retryAfter)}
}

// warn tells once of a failure that will meet every cgroup. A cgroup that is
// gone (ESTALE) is everyday life.
func (r *Resolver) warn(err error) {
	if r.warned || errors.Is(err, unix.ESTALE) {
		return
	}
	r.warned = true
	r.log.Warn("cannot look up cgroups by id, processes that end early will lack their container", "error", err)
}
