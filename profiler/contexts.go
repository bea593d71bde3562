// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fleetprof/fleetprof/bpf"
	"github.com/fleetprof/fleetprof/internal/procfs"
	"github.com/fleetprof/fleetprof/profiler/threadcontext"
)

// contexts tells the kernel side where the threads of processes have their
// OpenTelemetry context, and names its attributes. A process is looked at a second after
// its first sample, so that those that are over by then cost nothing, and again later: it
// may publish at any time, and load libraries. Looks are made beside the sampling. Not
// safe for concurrent use.
type contexts struct {
	kernel contextMap
	proc   procfs.FS
	log    *slog.Logger
	looks  *prometheus.CounterVec

	byPID map[uint32]*contextOf
	// looking is how many looks are under way, and lookingInto how many of them by cgroup.
	// Memory that a process has a file or a user-space pager behind may let one wait for
	// ever: nobody waits for looks, and those of one container wait for that one only.
	looking     int
	lookingInto map[uint64]int
	looked      chan look
}

// contextMap is the kernel side of it.
type contextMap interface {
	SetContext(pid uint32, c bpf.Context) error
	DeleteContext(pid uint32) error
}

// contextOf is what is known of a process.
type contextOf struct {
	space   addressSpace
	looking bool
	placed  bool
	keys    []string
	named   uint64 // when the program had named them
	// last is when it was looked at last, next when it is again, CLOCK_MONOTONIC, and
	// wait how long after that once more; all in nanoseconds.
	last, next, wait uint64
}

// look is what one look at a process found.
type look struct {
	pid    uint32
	cgroup uint64
	of     *contextOf
	place  threadcontext.Place
	// context is where the process context is, and named when the keys were named.
	context, named uint64
	keys           []string
	err            error
}

const (
	// Looks under way, and those into processes of one cgroup.
	maxLooking     = 16
	maxLookingInto = 2
	// A process is looked at again after a second, and each time after twice as long,
	// up to a minute or so.
	firstLook = 1e9
	lastLook  = 64e9
	// maxImages bounds the ELF images of one process that are looked into.
	maxImages = 1024
	// maxReads bounds how often one look reads from a process, which may lead it on
	// and on. An image takes some ten reads, at about a microsecond each.
	maxReads = 32 << 10
)

func newContexts(kernel contextMap, proc procfs.FS, log *slog.Logger, reg prometheus.Registerer) *contexts {
	c := &contexts{
		kernel: kernel, proc: proc, log: log,
		looks: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fleetprof_profiler_thread_contexts_total",
			Help: "Looks for an OpenTelemetry thread context in processes, by result.",
		}, []string{"result"}),
		byPID:       make(map[uint32]*contextOf),
		lookingInto: make(map[uint64]int),
		looked:      make(chan look, maxLooking),
	}
	reg.MustRegister(c.looks)
	return c
}

// meet sees to it that the context of a process is known, if it has any, and names the
// attributes of a tick.
func (c *contexts) meet(t *tick) {
	of := c.byPID[t.PID]
	if of == nil || of.space != t.space {
		of = &contextOf{space: t.space, wait: firstLook, next: t.Time + firstLook}
		c.byPID[t.PID] = of
	}
	if t.Time >= of.next {
		c.start(t, of)
	}
	if len(t.attributes.data) == 0 {
		return
	}
	known := of.named == t.attributes.named // else its numbers may mean something else by now
	if known {
		t.Published, known = threadcontext.Attributes(of.keys, t.attributes.data)
	}
	if !known {
		of.next = min(of.next, of.last+firstLook)
	}
}

// start makes a process be looked at, now or at a later tick.
func (c *contexts) start(t *tick, of *contextOf) {
	if of.looking || c.looking == maxLooking || c.lookingInto[t.CgroupID] == maxLookingInto {
		return
	}
	of.last, of.next, of.wait = t.Time, t.Time+of.wait, min(2*of.wait, lastLook)
	of.looking = true
	c.looking++
	c.lookingInto[t.CgroupID]++
	l := look{pid: t.PID, cgroup: t.CgroupID, of: of}
	go func() {
		c.look(&l)
		c.looked <- l
	}()
}

// ends takes that a look is no more under way.
func (c *contexts) ends(l *look) {
	c.looking--
	if c.lookingInto[l.cgroup]--; c.lookingInto[l.cgroup] == 0 {
		delete(c.lookingInto, l.cgroup)
	}
}

// poll takes what has been found.
func (c *contexts) poll() {
	for {
		select {
		case l := <-c.looked:
			c.ends(&l)
			c.take(&l)
		default:
			return
		}
	}
}

func (c *contexts) take(l *look) {
	l.of.looking = false
	if c.byPID[l.pid] != l.of {
		return // it has ended since, or runs something else
	}
	switch {
	case l.err == nil:
		l.of.keys, l.of.named = l.keys, l.named
		if l.err = c.place(l); l.err == nil {
			c.looks.WithLabelValues("found").Inc()
			l.of.placed = true
			return
		}
		c.looks.WithLabelValues("no_room").Inc()
	case errors.Is(l.err, threadcontext.ErrNone) || errors.Is(l.err, os.ErrNotExist):
		c.looks.WithLabelValues("none").Inc()
	default:
		c.looks.WithLabelValues("refused").Inc()
		c.log.Debug("thread context not read", "pid", l.pid, "error", l.err)
	}
	c.remove(l.pid, l.of)
}

// place tells the kernel side what a look has found.
func (c *contexts) place(l *look) error {
	return c.kernel.SetContext(l.pid, bpf.Context{
		Mm: l.of.space.mm, ExecId: l.of.space.execID, Offset: l.place.Offset,
		Vector: l.place.Vector, Length: l.place.Length, Stride: l.place.Stride, Module: l.place.Module,
		Named: l.context + threadcontext.NamedOffset,
	})
}

// remove makes the kernel side forget a context.
func (c *contexts) remove(pid uint32, of *contextOf) {
	if !of.placed {
		return
	}
	of.placed = false
	if err := c.kernel.DeleteContext(pid); err != nil {
		c.log.Debug("thread context not forgotten", "pid", pid, "error", err)
	}
}

// ended forgets a process.
func (c *contexts) ended(pid uint32) {
	if of := c.byPID[pid]; of != nil {
		c.remove(pid, of)
		delete(c.byPID, pid)
	}
}

// contextMappings is what the mappings of a process say of its context.
type contextMappings struct {
	context uint64 // where the process context is, 0: there is none
	images  []uint64
	program uint64 // the one of them that is the program, 0: not known
}

// look looks into a process.
func (c *contexts) look(l *look) {
	m, err := c.mappings(l.pid)
	if err != nil {
		l.err = err
		return
	}
	if m.context == 0 {
		l.err = threadcontext.ErrNone
		return
	}
	l.context = m.context
	memory, err := os.Open(c.proc.Path(l.pid, "mem"))
	if err != nil {
		l.err = err
		return
	}
	defer memory.Close()
	bounded := &boundedReads{ReaderAt: memory, left: maxReads}
	if l.keys, l.named, l.err = threadcontext.Keys(bounded, m.context); l.err != nil {
		return
	}
	l.place, l.err = m.find(bounded)
}

// boundedReads is memory of which so many reads are left.
type boundedReads struct {
	io.ReaderAt
	left int
}

var errTooManyReads = fmt.Errorf("more than %d reads of its memory", maxReads)

func (b *boundedReads) ReadAt(p []byte, at int64) (int, error) {
	if b.left == 0 {
		return 0, errTooManyReads
	}
	b.left--
	return b.ReaderAt.ReadAt(p, at)
}

// find looks for the variable in the program first, as dynamic loaders do.
func (m *contextMappings) find(memory *boundedReads) (place threadcontext.Place, err error) {
	libc := threadcontext.UnknownLibc
	if m.program != 0 {
		if libc, err = threadcontext.LibcOf(memory, m.program); err != nil {
			return place, err
		}
	}
	for i, image := range append([]uint64{m.program}, m.images...) {
		if image == 0 || i > 0 && image == m.program {
			continue
		}
		place, err = threadcontext.Find(memory, image, i == 0, libc)
		if memory.left == 0 {
			return place, errTooManyReads
		}
		if !errors.Is(err, threadcontext.ErrNone) {
			return place, err
		}
	}
	return place, errors.Join(errNoVariable, err)
}

// errNoVariable reports a process that says it has a thread context, and has none yet.
var errNoVariable = errors.New("no library defines " + threadcontext.Variable)

// mappings reads where everything is.
func (c *contexts) mappings(pid uint32) (m contextMappings, err error) {
	program, err := os.Readlink(c.proc.Path(pid, "exe"))
	if err != nil {
		return m, err
	}
	program = strings.TrimSuffix(program, " (deleted)")
	err = c.proc.Maps(pid, func(line procfs.Mapping) bool {
		switch {
		case m.context == 0 && isProcessContext(line.Path):
			m.context = line.Start
		case line.Backing() != procfs.File || line.Offset != 0 || line.Perm&procfs.Read == 0:
		case line.Path == program && m.program == 0:
			m.program = line.Start
		case len(m.images) < maxImages:
			m.images = append(m.images, line.Start)
		}
		return true
	})
	return m, err
}

// isProcessContext tells the mapping by its name, see threadcontext/FORMAT.md.
func isProcessContext(path string) bool {
	for _, name := range [...]string{"/memfd:OTEL_CTX", "[anon_shmem:OTEL_CTX]", "[anon:OTEL_CTX]"} {
		if strings.HasPrefix(path, name) {
			return true
		}
	}
	return false
}
