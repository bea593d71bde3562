// SPDX-License-Identifier: Apache-2.0

package service

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/fleetprof/fleetprof/internal/procfs"
	"github.com/fleetprof/fleetprof/sample"
)

const (
	// maxEnviron bounds what is read of one environment, in bytes. The kernel allows
	// for more (execve(2)), programs do not come with it.
	maxEnviron = 256 << 10
	// readers is how many environments are read at once, and readersOfOne how many of
	// them of one cgroup. A process can make it take as long as it lives: those of one
	// container can stop it for that container, those of eight for all.
	readers      = 16
	readersOfOne = 2
	// spareBuffers is how many buffers are kept. More are made while readers are held up.
	spareBuffers = 2
	// maxWaiting bounds the processes that wait for being read; others are asked for
	// again with their next sample.
	maxWaiting = 512
	// maxTries bounds how often a process is read that executes another program than
	// the one asked for, which is what it is about to do or to end.
	maxTries = 3
)

// Declarations keeps which service each process says that it is. An environment is
// read once for each execution of a program. It is safe for concurrent use; only Wait
// waits for anything.
type Declarations struct {
	proc    procfs.FS
	metrics metrics
	waiting chan sample.Process
	buffers chan []byte // of maxEnviron bytes, unused

	mu sync.Mutex
	// underWay is how many environments are being read, by cgroup.
	underWay map[string]int
	// recent and older are by the number of the execution. What is not used while
	// recent fills up is forgotten.
	recent, older map[uint64]declaration
	size          int
}

// declaration is what is known of one execution.
type declaration struct {
	name  string
	tries int
	state state
}

type state uint8

const (
	unread state = iota
	reading
	settled
)

type metrics struct {
	read, gone, changed, failed, busy prometheus.Counter
	stuck                             prometheus.Gauge
}

func newMetrics(r prometheus.Registerer) metrics {
	reads := promauto.With(r).NewCounterVec(prometheus.CounterOpts{
		Name: "fleetprof_environment_reads_total",
		Help: "Environments of processes looked at for the name of a service, by result: changed is of one that executed another program by then, busy was put off, for want of room or because others of the cgroup are being read.",
	}, []string{"result"})
	return metrics{
		read:    reads.WithLabelValues("read"),
		gone:    reads.WithLabelValues("gone"),
		changed: reads.WithLabelValues("changed"),
		failed:  reads.WithLabelValues("failed"),
		busy:    reads.WithLabelValues("busy"),
		stuck: promauto.With(r).NewGauge(prometheus.GaugeOpts{
			Name: "fleetprof_environment_readers_busy",
			Help: "Environments that are being read. It takes microseconds, unless a process holds it up.",
		}),
	}
}

// NewDeclarations remembers up to twice size executions.
func NewDeclarations(proc procfs.FS, size int, r prometheus.Registerer) *Declarations {
	return &Declarations{
		proc: proc, metrics: newMetrics(r), waiting: make(chan sample.Process, maxWaiting),
		buffers: make(chan []byte, spareBuffers), underWay: make(map[string]int),
		recent: make(map[uint64]declaration), older: make(map[uint64]declaration), size: size,
	}
}

// Run reads environments until ctx ends. It does not wait for one that is being read
// then: the process holds it up.
func (d *Declarations) Run(ctx context.Context) {
	for range readers {
		go func() {
			for {
				select {
				case <-ctx.Done():
					return
				case p := <-d.waiting:
					d.serve(p)
				}
			}
		}()
	}
	<-ctx.Done()
}

// Meet makes a process be read that is not known yet.
func (d *Declarations) Meet(p sample.Process) {
	if p.Execution == 0 {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	known := d.get(p.Execution)
	if known.state != unread {
		return
	}
	select {
	case d.waiting <- p:
		known.state = reading
		d.put(p.Execution, known)
	default:
		d.metrics.busy.Inc()
	}
}

// Of gives what an execution declared, "" if nothing; known is false if that may still
// be learned.
func (d *Declarations) Of(execution uint64) (name string, known bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	found := d.get(execution)
	return found.name, found.state == settled || execution == 0
}

// Wait is Meet and Of, with some time in between if need be.
func (d *Declarations) Wait(p sample.Process, atMost time.Duration) string {
	for deadline := time.Now().Add(atMost); ; time.Sleep(time.Millisecond) {
		d.Meet(p) // again if it was put off
		name, known := d.Of(p.Execution)
		if known || !time.Now().Before(deadline) {
			return name
		}
	}
}

// get keeps what it finds from being forgotten.
func (d *Declarations) get(execution uint64) declaration {
	known, ok := d.recent[execution]
	if ok {
		return known
	}
	if known, ok = d.older[execution]; ok {
		d.put(execution, known)
	}
	return known
}

func (d *Declarations) put(execution uint64, known declaration) {
	if len(d.recent) >= d.size {
		d.older, d.recent = d.recent, make(map[uint64]declaration)
	}
	d.recent[execution] = known
}

// serve reads the environment of one process, or puts it off if its cgroup has as many
// readers as it may have.
func (d *Declarations) serve(p sample.Process) {
	group := d.cgroup(p.PID)
	if !d.enter(p, group) {
		d.metrics.busy.Inc()
		return
	}
	d.metrics.stuck.Inc()
	d.read(p)
	d.metrics.stuck.Dec()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.underWay[group]--; d.underWay[group] == 0 {
		delete(d.underWay, group)
	}
}

// cgroup names the cgroup of a process in all hierarchies; those of which it is not known
// have one in common. Unlike the environment it is no memory of the process, which
// cannot hold up the reading.
func (d *Declarations) cgroup(pid uint32) string {
	all, _ := d.proc.Cgroups(pid) // it may be gone
	var name strings.Builder
	for _, c := range all {
		name.WriteString(c.Path)
		name.WriteByte('\n')
	}
	return name.String()
}

func (d *Declarations) enter(p sample.Process, group string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.underWay[group] < readersOfOne {
		d.underWay[group]++
		return true
	}
	known := d.get(p.Execution)
	known.state = unread
	d.put(p.Execution, known)
	return false
}

func (d *Declarations) buffer() []byte {
	select {
	case b := <-d.buffers:
		return b
	default:
		return make([]byte, maxEnviron)
	}
}

func (d *Declarations) keep(b []byte) {
	select {
	case d.buffers <- b:
	default:
	}
}

// read reads the environment of one process.
func (d *Declarations) read(p sample.Process) {
	buf := d.buffer()
	name, err := d.declared(p, buf)
	d.keep(buf)
	d.mu.Lock()
	defer d.mu.Unlock()
	known := d.get(p.Execution)
	known.name, known.state = name, settled
	switch {
	case err == nil:
		d.metrics.read.Inc()
	case errors.Is(err, fs.ErrNotExist):
		d.metrics.gone.Inc()
	case errors.Is(err, errChanged):
		d.metrics.changed.Inc()
		if known.tries++; known.tries < maxTries {
			known.state = unread
		}
	default:
		d.metrics.failed.Inc()
	}
	d.put(p.Execution, known)
}

// errChanged says that a process is not what it was when it was asked for.
var errChanged = errors.New("process executes another program")

// declared reads what a process declares. Before and after, it must be the program that
// was sampled, and one process all along: its number may be another's by now.
func (d *Declarations) declared(p sample.Process, buf []byte) (string, error) {
	before, err := d.identity(p)
	if err != nil {
		return "", err
	}
	environ, err := d.proc.Environ(p.PID, buf)
	if err != nil {
		return "", err
	}
	after, err := d.identity(p)
	if err != nil {
		return "", err
	}
	if before != after {
		return "", errChanged
	}
	return Declared(environ), nil
}

// identity gives the time at which a process started.
func (d *Declarations) identity(p sample.Process) (start uint64, err error) {
	stat, err := d.proc.Stat(p.PID)
	if err != nil {
		return 0, err
	}
	executable, err := d.proc.Executable(p.PID)
	if err != nil {
		return 0, err
	}
	if executable != p.Executable {
		return 0, errChanged
	}
	return stat.StartTime, nil
}
